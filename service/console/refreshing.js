// How often a page asks the service, and how it is made to ask at once.

/** Between two requests of a page on which nothing happens. */
export const IDLE_MS = 2200;
/** Between two refreshes while a job runs. */
export const BUSY_MS = 800;

let wake = () => {};

/** Refresh the page now: the person has just changed something. */
export const refreshNow = () => wake();

/** Wait that many milliseconds, or until `refreshNow`. */
export const pauseFor = (milliseconds) =>
  new Promise((resolve) => {
    wake = resolve;
    setTimeout(resolve, milliseconds);
  });
