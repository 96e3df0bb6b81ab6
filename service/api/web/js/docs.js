// The interactive description of the HTTP interface, from files that the service ships.

window.SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null, // would ask a server elsewhere
});
