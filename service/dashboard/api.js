// Asking the API. Answers come with an ETag, so the browser's cache turns an unchanged one into a 304.

/** The service did not answer, or could not. */
export class Away extends Error {}

const PATIENCE_MS = 8000;

/** The JSON at `path`; Away when there is no answer, an error of ours, or none in time. */
export async function get(path) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-cache", signal: AbortSignal.timeout(PATIENCE_MS) });
  } catch (error) {
    throw new Away(error.message);
  }
  if (!answer.ok) throw new Away(`${path} answered ${answer.status}`);
  return answer.json();
}

/** Every model, newest first, with the jobs it has going and the state of its last one. */
export async function look() {
  const [models, recent, running] = await Promise.all([
    get("/v1/models?limit=100"),
    get("/v1/jobs?limit=100"),
    get("/v1/jobs?limit=100&state=running"),
  ]);
  const jobs = new Map([...running.data, ...recent.data].map((job) => [job.id, job]));
  const newestFirst = [...jobs.values()].sort((one, other) => (one.id < other.id ? 1 : -1));
  return models.data.map((model) => {
    const own = newestFirst.filter((job) => job.model === model.id);
    const unfinished = own.filter((job) => !job.done).reverse();
    const last = own.find((job) => job.done);
    const lastFailed = unfinished.length === 0 && last && last === own[0] && last.error ? [last] : [];
    return { ...model, jobs: [...lastFailed, ...unfinished], busy: unfinished.length > 0 };
  });
}

const MANY_VERSIONS = 24;

/** The newest versions of a model, oldest first, and whether there are earlier ones. */
export async function versionsOf(model) {
  const page = await get(`${model.links.versions}?limit=${MANY_VERSIONS}`);
  return { versions: page.data.reverse(), earlier: page.has_more };
}
