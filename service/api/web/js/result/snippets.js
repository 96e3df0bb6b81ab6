// A recipe as code for five clients. Pure: a request goes in, text comes out.

export const CLIENTS = [
  { name: "curl", write: curl },
  { name: "Python, HTTP", write: pythonHttp },
  { name: "Python, gRPC", write: pythonGrpc },
  { name: "OpenAI SDK", write: openAi },
  { name: "TypeScript", write: typeScript },
];

/** What a request to an upscaler may say; the record says more. */
const OF_UPSCALERS = new Set(["prompt", "model", "image", "scale", "num_inference_steps", "seed", "output_format",
  "bit_depth", "quality", "tile_format", "tiles", "metadata"]);

const given = (request) => Object.entries(request).filter(([name, value]) =>
  value !== null && (!request.scale || OF_UPSCALERS.has(name)));
const asJson = (request) => JSON.stringify(Object.fromEntries(given(request)), null, 2);
const shellQuoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** JSON's strings and numbers are Python's; its three words are not. */
function python(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([key, inner]) => `"${key}": ${python(inner)}`).join(", ")}}`;
}

const lines = (fields, indent, write) =>
  fields.map(([name, value]) => `${" ".repeat(indent)}${write(name, value)},`).join("\n");

const file = (request) => `picture.${request.output_format === "jpeg" ? "jpg" : request.output_format}`;

/** Where the service asks for keys, the code reads one from the environment: never the one in use. */
const pythonKey = (quote) => `os.environ[${quote}HIDIFFUSION_KEY${quote}]`;

function curl(request, { origin, asksForKey }) {
  const key = asksForKey ? ' -H "Authorization: Bearer $HIDIFFUSION_KEY"' : "";
  return `# Ask, follow until it is done, download.
record=$(curl -sS${key} -o /dev/null -w '%header{location}' ${origin}/v1/generations \\
  -H 'Content-Type: application/json' \\
  -d ${shellQuoted(asJson(request))})
curl -sSN${key} "${origin}$record/events"
curl -sSL${key} -o ${file(request)} "${origin}$record/image"
`;
}

function pythonHttp(request, { origin, asksForKey }) {
  const headers = asksForKey ? `, headers={"Authorization": f"Bearer {${pythonKey("'")}}"}` : "";
  return `${asksForKey ? "import os\n\n" : ""}import httpx
from httpx_sse import connect_sse

with httpx.Client(base_url="${origin}", timeout=None${headers}) as client:
    request = {
${lines(given(request), 8, (name, value) => `"${name}": ${python(value)}`)}
    }
    record = client.post("/v1/generations", json=request).raise_for_status().json()
    with connect_sse(client, "GET", record["links"]["events"]) as events:
        for event in events.iter_sse():
            print(event.event, event.data)
    image = client.get(f"/v1/generations/{record['id']}/image", follow_redirects=True)
    with open("${file(request)}", "wb") as file:
        file.write(image.raise_for_status().content)
`;
}

/** Enumerations go by their full name: "png" of output_format is OUTPUT_FORMAT_PNG. */
const grpcValue = (name, value) =>
  name.endsWith("_format") ? `"${name.toUpperCase()}_${value.toUpperCase()}"` : python(value);

function pythonGrpc(request, { grpcAddress, asksForKey }) {
  const bearer = `\nmetadata = [("authorization", f"Bearer {${pythonKey("'")}}")]\n`;
  const metadata = asksForKey ? ", metadata=metadata" : "";
  return `${asksForKey ? "import os\n\n" : ""}import grpc
from hidiffusion_api.v1 import generation_service_pb2 as rpc
from hidiffusion_api.v1.generation_service_pb2_grpc import (
    GenerationServiceStub,
)
${asksForKey ? bearer : ""}
with grpc.insecure_channel("${grpcAddress}") as channel:
    service = GenerationServiceStub(channel)
    request = rpc.CreateGenerationRequest(
${lines(given(request), 8, (name, value) => `${name}=${grpcValue(name, value)}`)}
    )
    id = service.CreateGeneration(request${metadata}).generation.id
    for response in service.WatchGeneration(rpc.WatchGenerationRequest(id=id)${metadata}):
        print(response.event.WhichOneof("event"))
    with open("${file(request)}", "wb") as file:
        for part in service.DownloadImage(rpc.DownloadImageRequest(id=id)${metadata}):
            file.write(part.data)
`;
}

/** What the service's OpenAI interface takes beside OpenAI's own names. */
const EXTRA = ["negative_prompt", "num_inference_steps", "guidance_scale", "seed", "scheduler", "method",
  "method_options", "strength", "loras", "prompt_weighting", "controls", "image_prompt"];

/** What an edit starts from, which only whoever made it has as a file. */
const files = ({ image, mask }) =>
  [["image", image], ["mask", mask]].filter(([, id]) => id)
    .map(([name]) => `\n    ${name}=open("${name}.png", "rb"),`).join("");

function openAi(request, { origin, asksForKey }) {
  const extra = given(request).filter(([name]) => EXTRA.includes(name));
  const quality = request.quality ? `\n    output_compression=${request.quality},` : "";
  return `import base64
${asksForKey ? "import os\n" : ""}
from openai import OpenAI

client = OpenAI(base_url="${origin}/v1", api_key=${asksForKey ? pythonKey('"') : '"unused"'})
images = client.images.${request.image ? "edit" : "generate"}(${files(request)}
    model=${python(request.model)},
    prompt=${python(request.prompt)},
    size="${request.width}x${request.height}",
    output_format="${request.output_format}",${quality}
    extra_body={
${lines(extra, 8, (name, value) => `"${name}": ${python(value)}`)}
    },
)
with open("${file(request)}", "wb") as file:
    file.write(base64.b64decode(images.data[0].b64_json))
`;
}

function typeScript(request, { origin, asksForKey }) {
  const headers = asksForKey ? "\n  headers: { authorization: `Bearer ${process.env.HIDIFFUSION_KEY}` }," : "";
  return `// npm install openapi-fetch && npm install --save-dev openapi-typescript typescript@5 @types/node
// npx openapi-typescript ${origin}/openapi.json -o schema.d.ts
import { writeFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const client = createClient<paths>({
  baseUrl: "${origin}",${headers}
});
const asked = await client.POST("/v1/generations", {
  body: {
${lines(given(request), 4, (name, value) => `${name}: ${JSON.stringify(value)}`)}
  },
});
if (!asked.data) throw new Error(JSON.stringify(asked.error));
const params = { path: { generation_id: asked.data.id } };
let { status } = asked.data;
while (status === "queued" || status === "running") {
  await new Promise((later) => setTimeout(later, 1000));
  const { data } = await client.GET("/v1/generations/{generation_id}", { params });
  if (data) ({ status } = data);
}
const image = await client.GET("/v1/generations/{generation_id}/image", { params, parseAs: "arrayBuffer" });
if (!image.data) throw new Error(JSON.stringify(image.error));
await writeFile("${file(request)}", Buffer.from(image.data as ArrayBuffer));
`;
}
