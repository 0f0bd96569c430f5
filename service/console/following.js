// The events of a job as they happen. The browser resumes the stream by itself after the last event that it has.

/** Call `onEvent` with every event of the job at `path`, from its first one on, until the job has ended. */
export function follow(path, onEvent) {
  const source = new EventSource(`${path}/events`);
  const hear = (message) => {
    const event = JSON.parse(message.data);
    onEvent(event);
    if (event.type === "state" && event.done) source.close();
  };
  for (const type of ["message", "state", "progress", "log"]) source.addEventListener(type, hear);
  return source;
}
