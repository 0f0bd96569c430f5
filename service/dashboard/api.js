// Requests to the API. Answers have an ETag: the browser's cache turns an unchanged one into a 304.

/** The service did not answer, or answered with an error. */
export class ServiceUnavailable extends Error {}

/** The service needs an API key, and this browser is not signed in. */
export class SignInNeeded extends Error {}

const TIMEOUT_MS = 8000;

async function send(path, options = {}) {
  try {
    return await fetch(path, { ...options, cache: "no-cache", signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch (error) {
    throw new ServiceUnavailable(error.message);
  }
}

/** Sign this browser in with an API key. Returns why the service refused it, or null. */
export async function signIn(key) {
  const headers = { "Content-Type": "application/json" };
  const answer = await send("/v1/session", { method: "POST", headers, body: JSON.stringify({ key }) });
  return answer.ok ? null : (await answer.json()).detail;
}

/** Sign this browser out. */
export async function signOut() {
  await send("/v1/session", { method: "DELETE" });
}

/** Get the JSON at `path`. Throws SignInNeeded, and ServiceUnavailable without a good answer in time. */
export async function get(path) {
  const answer = await send(path);
  if (answer.status === 401) throw new SignInNeeded(path);
  if (!answer.ok) throw new ServiceUnavailable(`${path} answered ${answer.status}`);
  return answer.json();
}

/** Get every model, newest first, each with its unfinished jobs, or its last job if that failed. */
export async function fetchModels() {
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

const MAX_VERSIONS = 24;

/** Get the newest versions of a model, oldest first, and whether there are earlier ones. */
export async function fetchVersions(model) {
  const page = await get(`${model.links.versions}?limit=${MAX_VERSIONS}`);
  return { versions: page.data.reverse(), earlier: page.has_more };
}
