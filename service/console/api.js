// Requests to the API. Answers have an ETag: the browser's cache turns an unchanged one into a 304.

/** The service did not answer, or answered with an error of its own. */
export class ServiceUnavailable extends Error {}

/** The service needs an API key, and this browser is not signed in. */
export class SignInNeeded extends Error {}

/** The service refused the request. `problem` is its problem+json. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `The service answered ${status}.`);
    this.status = status;
    this.problem = problem;
  }

  /** The reason in lines for people. */
  get lines() {
    const errors = (this.problem.errors ?? []).map(({ pointer, detail }) => (pointer ? `${pointer.slice(1).replaceAll("/", " · ")}: ${detail}` : detail));
    return errors.length ? errors : [this.message];
  }
}

const TIMEOUT_MS = 8000;
const UPLOAD_TIMEOUT_MS = 300_000;

async function send(path, options = {}, timeout = TIMEOUT_MS) {
  let answer;
  try {
    answer = await fetch(path, { ...options, cache: "no-cache", signal: AbortSignal.timeout(timeout) });
  } catch (error) {
    throw new ServiceUnavailable(error.message);
  }
  if (answer.ok) return answer;
  if (answer.status === 401 && path !== "/v1/session") throw new SignInNeeded(path);
  const problem = await answer.json().catch(() => ({}));
  if (answer.status >= 500) throw new ServiceUnavailable(problem.detail ?? `${path} answered ${answer.status}`);
  throw new Refused(answer.status, problem);
}

const parse = async (answer) => (answer.status === 204 ? null : answer.json());

/** Get the JSON at `path`. */
export const get = async (path) => parse(await send(path));

/** Get the items of all pages of the list at `path`. */
export async function getAll(path) {
  const items = [];
  for (let next = ""; next !== null; ) {
    const page = await get(`${path}?limit=100${next && `&after=${encodeURIComponent(next)}`}`);
    items.push(...page.data);
    next = page.next;
  }
  return items;
}

/** Get the answer to a GET as it is. */
export const getAnswer = (path) => send(path, { headers: { Accept: "*/*" } });

/** Get the JSON at `path`, or null if there is none (404, 409, 410). */
export async function getIfAny(path) {
  try {
    return await get(path);
  } catch (error) {
    if (error instanceof Refused && error.status !== 403) return null;
    throw error;
  }
}

const withBody = (body, headers) => ({ body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers } });

/** POST `body`. A repetition by the browser or a double click is the same request: it has an idempotency key. */
export async function post(path, body, key = idempotencyKey(), headers = {}) {
  const sent = body === undefined ? { headers } : withBody(body, headers);
  const answer = await send(path, { ...sent, method: "POST", headers: { ...sent.headers, "Idempotency-Key": key } });
  return parse(answer);
}

/** POST `body` and get the answer as it is, without an idempotency key. */
export const postAnswer = (path, body) => send(path, { ...withBody(body), method: "POST" });

export const put = async (path, body, headers = {}) => parse(await send(path, { ...withBody(body, headers), method: "PUT" }));

/** Change what `changes` names: a JSON merge patch, where null removes. */
export const patch = async (path, changes) => parse(await send(path, { body: JSON.stringify(changes), headers: { "Content-Type": "application/merge-patch+json" }, method: "PATCH" }));

export const remove = async (path, headers = {}) => parse(await send(path, { method: "DELETE", headers }));

export const upload = async (path, file) =>
  parse(await send(path, { method: "PUT", body: file, headers: { "Content-Type": "application/octet-stream" } }, UPLOAD_TIMEOUT_MS));

export const idempotencyKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** The JSON of /readyz, whatever its status. */
export async function readiness() {
  try {
    const answer = await fetch("/readyz", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    return await answer.json();
  } catch (error) {
    throw new ServiceUnavailable(error.message);
  }
}

/** Sign this browser in with an API key. Throws Refused. */
export const signIn = async (key) => parse(await send("/v1/session", { ...withBody({ key }), method: "POST" }));

export const signOut = () => send("/v1/session", { method: "DELETE" });

/** The strategies, datasets and architectures. They change with the packages that the running workers have. */
export const getCatalog = () => get("/v1/catalog");

export const modelPath = (name) => `/models/${encodeURIComponent(name)}`;
export const modelApi = (name) => `/v1/models/${encodeURIComponent(name)}`;
