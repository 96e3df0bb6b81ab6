// Follow a generation. The browser reconnects with Last-Event-ID, so nothing is missed; where it
// gives up, because a proxy answered in the service's place, the stream is opened again from the
// first event and what was seen before is passed over.

const FINAL = new Set(["succeeded", "failed", "cancelled"]);
const TYPES = ["queued", "started", "step", "preview", "tile", "waiting_for_store", ...FINAL];
const REOPEN_MILLISECONDS = 2000;

/**
 * Hear of every event of a generation once, in order, to the final one.
 *
 * @param {string} href of the event stream
 * @param {(type: string, data: object) => void} onEvent
 * @param {(connected: boolean) => void} onConnection
 * @returns {() => void} stops following
 */
export function follow(href, onEvent, onConnection) {
  let source = null;
  let timer = null;
  let last = null;
  let stopped = false;

  function stop() {
    stopped = true;
    clearTimeout(timer);
    source?.close();
    removeEventListener("online", open);
  }

  function take(event) {
    if (stopped || (last !== null && !isAfter(event.lastEventId, last))) return;
    last = event.lastEventId;
    if (FINAL.has(event.type)) stop();
    onEvent(event.type, JSON.parse(event.data));
  }

  function open() {
    clearTimeout(timer);
    source?.close();
    source = new EventSource(href);
    source.onopen = () => onConnection(true);
    source.onerror = lost;
    for (const type of TYPES) source.addEventListener(type, take);
  }

  function lost() {
    if (stopped) return;
    onConnection(false);
    if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, REOPEN_MILLISECONDS);
  }

  addEventListener("online", open);
  open();
  return stop;
}

/** Whether one stream id, "milliseconds-number", comes after another. */
function isAfter(id, other) {
  const [time, number] = id.split("-").map(Number);
  const [otherTime, otherNumber] = other.split("-").map(Number);
  return time > otherTime || (time === otherTime && number > otherNumber);
}
