// The browser's half of the cookie transport, safe in any number of tabs; browser.md
// tells why. Copy this file, name your server, and log in as browser.md shows.
const issuer = "http://localhost:8080";
let token, until = 0, pause; // until is an instant of performance.now()

// One tab at a time, after the server's Retry-After: login, refresh and logout run in here.
export const alone = (act) => navigator.locks.request("authserver", () => Promise.resolve(pause).then(act));

// Keeps a token for 90 % of its life, counted from its receipt: the device's clock may be wrong.
export const keep = (t) => ([token, until] = [t.access_token, performance.now() + 900 * t.expires_in]);

// The retry key is stored before the request is sent and stays until the server has said yes
// or no. No answer, 429 and 503 are neither: the next attempt, in whatever tab, sends it again.
// It is in a cache, because another tab may see too late what this one does to localStorage.
async function post(path) {
  const key = (await (await caches.match("/retry-key", { cacheName: "authserver" }))?.text()) ?? crypto.randomUUID();
  await caches.open("authserver").then((cache) => cache.put("/retry-key", new Response(key)));
  const request = { method: "POST", credentials: "include", headers: { "Idempotency-Key": key } };
  const answer = await fetch(issuer + path, { ...request, signal: AbortSignal.timeout(20_000) }).catch(Response.error);
  if (answer.ok || answer.status === 401) { until = 0; await caches.delete("authserver"); }
  else pause = new Promise((over) => setTimeout(over, 1000 * Math.min(answer.headers.get("Retry-After") || 1, 60)));
  if (answer.ok) return answer;
  throw Object.assign(new Error(`${path}: ${answer.status || "no answer"}`), { loggedOut: answer.status === 401 });
}

// Returns an access token. Throws with loggedOut true: ask for the password; with loggedOut
// false: nobody knows now, call again. Hand it the token that an API refused with 401.
export async function accessToken(refused) {
  const valid = () => token !== refused && performance.now() < until;
  if (!valid()) await alone(() => valid() || post("/v1/refresh").then((answer) => answer.json()).then(keep));
  return token;
}

// Throws when nobody knows whether the session has ended: call again.
export const logOut = () => alone(() => post("/v1/logout"));
