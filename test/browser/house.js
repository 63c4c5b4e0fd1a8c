// The house of the browser's tests: the real server, a proxy before it that can
// lose or refuse answers, pages on origins of their own, and Chromium. The tests
// ask; everything that starts a process or opens a port is here.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../..", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "authserver-browser-"));
const binary = process.env.AUTHSERVER_BINARY || build();

const running = new Set();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
  rmSync(scratch, { recursive: true, force: true, maxRetries: 5 });
});

function build() {
  const out = join(scratch, "authserver");
  execFileSync("go", ["build", "-o", out, "./cmd/authserver"], { cwd: root, stdio: "inherit" });
  return out;
}

export function openBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
    env: { ...process.env, HOME: scratch },
  });
}

// poll calls look until it returns something true, and fails at the deadline.
export async function poll(what, look, patience = 15_000) {
  const deadline = performance.now() + patience;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (performance.now() > deadline) throw new Error(`${what}: not within ${patience} ms`);
    await delay(50);
  }
}

async function listen(handler, port = 0) {
  const server = http.createServer(handler).listen(port, "127.0.0.1");
  await once(server, "listening");
  return server;
}

const close = (server) => new Promise((done) => {
  server.close(done);
  server.closeAllConnections();
});

// The page loads the client as it stands in docs/, with another issuer.
const page = `<!doctype html><title>app</title><script type="module">
  import * as client from "/browser-client.js";
  // ask is accessToken with its error as a value: errors lose their members on the way out.
  const ask = (refused) => client.accessToken(refused).then((token) => ({ token }), (e) => ({
    loggedOut: e.loggedOut, error: String(e),
  }));
  const logIn = (issuer, email, password) => client.alone(async () => {
    const answer = await fetch(issuer + "/v1/login", {
      method: "POST", credentials: "include", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ email, password, transport: "cookie" }),
    });
    if (answer.ok) client.keep(await answer.json());
    return answer.status;
  });
  // api calls an API as browser.md shows: a refused token is handed back for another one.
  const api = async (url) => {
    const token = await client.accessToken();
    const call = (t) => fetch(url, { headers: { Authorization: "Bearer " + t } });
    const answer = await call(token);
    return answer.status === 401 ? call(await client.accessToken(token)) : answer;
  };
  window.app = { ...client, ask, logIn, api };
</script>`;

function pageServer(issuer) {
  const source = readFileSync(join(root, "docs/browser-client.js"), "utf8");
  const line = /^const issuer = ".*";$/m;
  if (!line.test(source)) throw new Error("docs/browser-client.js has no line: const issuer = \"...\";");
  const client = source.replace(line, `const issuer = "${issuer}";`);
  return listen((request, response) => {
    const script = request.url === "/browser-client.js";
    response.setHeader("Content-Type", script ? "text/javascript" : "text/html");
    response.end(script ? client : page);
  });
}

// Front stands where people have a reverse proxy; its address is the issuer's. It
// notes every refresh and does to the next one what fate says. Every request has a
// connection of its own: on one that was used before, Chromium silently repeats
// even a POST whose answer was lost.
class Front {
  refreshes = []; // { key, cookie, at, answered, status }
  fate = null;
  backend = 0; // the server's port

  async open(port = 0) {
    this.server = await listen((request, response) => this.#serve(request, response), port);
    this.port = this.server.address().port;
  }

  close() { return close(this.server); }

  async #serve(request, response) {
    let note, fate;
    if (request.method === "POST" && request.url === "/v1/refresh") {
      note = { key: request.headers["idempotency-key"], cookie: request.headers.cookie, at: performance.now() };
      this.refreshes.push(note);
      [fate, this.fate] = [this.fate, null];
    }
    if (fate?.status) {
      response.writeHead(fate.status, {
        "Retry-After": fate.retryAfter, "Access-Control-Expose-Headers": "Retry-After",
        "Access-Control-Allow-Origin": request.headers.origin, "Access-Control-Allow-Credentials": "true",
      }).end();
      return;
    }
    const { method, url, headers } = request;
    const onward = http.request({
      host: "127.0.0.1", port: this.backend, agent: false, method, path: url, headers: { ...headers, connection: "close" },
    });
    onward.on("error", () => response.writeHead(502).end());
    onward.on("response", (answer) => {
      if (note) Object.assign(note, { status: answer.statusCode, answered: performance.now() });
      if (fate === "lost") {
        answer.resume().on("end", () => request.socket.destroy());
        return;
      }
      response.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(response);
    });
    request.pipe(onward);
  }
}

export class House {
  front = new Front();
  password = "correct horse battery staple";
  email = "ada@example.com";
  #closers = [];

  // open starts everything for one test, which is t. settings lack their prefix.
  static async open(t, browser, settings = {}) {
    const h = new House();
    t.after(() => h.#close(t));
    await h.front.open();
    h.issuer = `http://localhost:${h.front.port}`;
    const app = await pageServer(h.issuer);
    const stranger = await pageServer(h.issuer);
    h.#closers.push(() => close(app), () => close(stranger), () => h.front.close());
    h.app = `http://localhost:${app.address().port}`;
    h.stranger = `http://localhost:${stranger.address().port}`; // same site, but not allowed
    h.otherSite = `http://127.0.0.1:${stranger.address().port}`;
    h.env = { PATH: process.env.PATH, HOME: scratch };
    const all = {
      ISSUER: h.issuer, ADDR: "127.0.0.1:0", ADMIN_ADDR: "127.0.0.1:0", DRAIN_DELAY: "0s",
      DATA_DIR: mkdtempSync(join(scratch, "data-")), ALLOWED_ORIGINS: h.app, ...settings,
    };
    for (const [name, value] of Object.entries(all)) h.env[`AUTHSERVER_${name}`] = value;
    await h.startServer();
    h.context = await browser.newContext(); // cookies and storage of its own
    h.#closers.unshift(() => h.context.close());
    return h;
  }

  async startServer() {
    const child = spawn(binary, ["serve"], { env: this.env, stdio: ["ignore", "ignore", "pipe"] });
    this.server = child;
    running.add(child);
    child.exited = once(child, "exit").then(() => running.delete(child));
    const log = this.log = [];
    await new Promise((resolve, reject) => {
      createInterface({ input: child.stderr }).on("line", (line) => {
        log.push(line);
        const event = line.startsWith("{") ? JSON.parse(line) : {};
        if (event.msg !== "serving") return;
        this.front.backend = Number(event.addr.split(":").pop());
        this.operations = `http://${event.admin_addr}`;
        resolve();
      });
      child.on("error", reject);
      child.on("exit", (code) => reject(new Error(`the server ended with ${code}:\n${log.join("\n")}`)));
    });
    await poll("readiness", () => fetch(this.operations + "/readyz").then((r) => r.ok, () => false));
  }

  async stopServer() {
    this.server.kill("SIGKILL");
    await this.server.exited;
  }

  async #close(t) {
    for (const step of this.#closers) await step().catch((e) => t.diagnostic(`closing: ${e}`));
    if (!this.server) return;
    await this.stopServer();
    if (process.env.VERBOSE) t.diagnostic(this.log.join("\n"));
  }

  // tab opens a page of the app, or of another origin.
  async tab(origin = this.app) {
    const tab = await this.context.newPage();
    await tab.goto(origin);
    await tab.waitForFunction(() => window.app);
    return tab;
  }

  // loggedIn opens a tab and logs in there, as a person does.
  async loggedIn() {
    const { email, password } = this;
    const made = await fetch(this.issuer + "/v1/users", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ email, password }),
    });
    if (made.status !== 201) throw new Error(`POST /v1/users: ${made.status} ${await made.text()}`);
    const tab = await this.tab();
    const status = await tab.evaluate(([i, e, p]) => app.logIn(i, e, p), [this.issuer, email, password]);
    if (status !== 200) throw new Error(`POST /v1/login from the page: ${status}`);
    return tab;
  }

  // outcomes returns what the server has said about refresh tokens: { rotated: 3, ... }.
  async outcomes() {
    const text = await (await fetch(this.operations + "/metrics")).text();
    const lines = [...text.matchAll(/^authserver_refresh_total\{outcome="(\w+)"\} (\d+)$/gm)];
    if (lines.length === 0) throw new Error("the metrics hold no authserver_refresh_total");
    return Object.fromEntries(lines.map(([, outcome, n]) => [outcome.toLowerCase(), Number(n)]));
  }

  // cookie returns what the browser holds for the server, HttpOnly or not.
  async cookie() {
    const all = await this.context.cookies(this.issuer);
    return all.find((c) => c.name === "refresh");
  }
}

// ask calls accessToken in the tab: { token } or { loggedOut, error }.
export const ask = (tab, refused) => tab.evaluate((r) => app.ask(r), refused);

// renew makes the tab get another token than the one it holds.
export const renew = async (tab) => ask(tab, (await ask(tab)).token);

export const retryKey = (tab) => tab.evaluate(() =>
  caches.match("/retry-key", { cacheName: "authserver" }).then((kept) => kept?.text() ?? null));
