// What docs/browser-client.js promises, told in Chromium against the real server.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ask, House, openBrowser, poll, renew, retryKey } from "./house.js";

let browser;
const stories = [];
const story = (name, settings, act) => stories.push([name, settings, act]);

// bearer asks the server, as an API would be asked, whether a token is good.
const bearer = async (house, token) =>
  (await fetch(house.issuer + "/v1/me", { headers: { Authorization: `Bearer ${token}` } })).status;

story("no script can read the refresh token", {}, async (house) => {
  const bodies = [];
  house.context.on("response", (r) => bodies.push(r.body().catch(() => ""))); // a preflight has none
  const tab = await house.loggedIn();
  const first = await house.cookie();
  const { token } = await renew(tab);
  assert.equal(await bearer(house, token), 200);

  const second = await house.cookie();
  assert.notEqual(second.value, first.value, "the refresh changed the cookie");
  assert.match(second.value, /^asrt_/);
  assert.deepEqual([second.httpOnly, second.sameSite, second.expires], [true, "Strict", -1]);
  assert.equal(await tab.evaluate(() => document.cookie), "");
  const stored = await tab.evaluate(async () => [
    localStorage.length, sessionStorage.length, await caches.keys(), await indexedDB.databases(),
  ]);
  assert.deepEqual(stored, [0, 0, [], []], "nothing is stored where scripts read");
  const text = (await Promise.all(bodies)).map(String);
  assert.equal(text.filter((b) => b.includes('"access_token":')).length, 2, "bodies of login and refresh were read");
  assert.ok(!text.some((b) => b.includes("asrt_") || b.includes(second.value)), "no body holds it");
});

story("five tabs with wrong clocks refresh for seconds and stay logged in", { ACCESS_TTL: "2s" }, async (house) => {
  await house.loggedIn();
  const tabs = await Promise.all([-5, -1, 0, 1, 5].map(async (hours) => {
    const tab = await house.tab();
    await tab.evaluate((off) => {
      const now = Date.now;
      Date.now = () => now() + (off *= -1); // and they jump
    }, hours * 3_600_000);
    return tab;
  }));
  const seconds = 5;
  const seen = await Promise.all(tabs.map((tab) => tab.evaluate(async ([url, end]) => {
    const wrong = [], statuses = {};
    for (end += performance.now(); performance.now() < end;) {
      const begun = performance.now();
      const parts = await Promise.all([app.ask(), app.ask(), app.ask()]); // of one page, at once
      const quick = performance.now() - begun < 900; // no token has expired meanwhile
      wrong.push(...parts.filter((p) => p.error));
      if (quick && new Set(parts.map((p) => p.token)).size > 2) wrong.push("parts of one page refreshed one by one");
      const { status } = await app.api(url);
      statuses[status] = (statuses[status] ?? 0) + 1;
      await new Promise((over) => setTimeout(over, 50));
    }
    return { wrong, statuses };
  }, [house.issuer + "/v1/me", seconds * 1000])));

  for (const { wrong, statuses } of seen) {
    assert.deepEqual(wrong, []);
    const { 200: good, 401: late = 0, ...others } = statuses; // late: the machine paused for a token's life
    assert.deepEqual(others, {});
    assert.ok(good > late, `GET /v1/me: ${JSON.stringify(statuses)}`);
  }
  const { refreshes } = house.front;
  const total = refreshes.length;
  assert.ok(total > tabs.length, `${total} refreshes by ${tabs.length} tabs in ${seconds} s`);
  assert.ok(total <= tabs.length * 2 * seconds, `${total} refreshes, though a token lives 1 s at least`);
  const { rotated, replayed, reused } = await house.outcomes();
  assert.deepEqual({ rotated, replayed, reused }, { rotated: total, replayed: 0, reused: 0 });
  assert.equal(new Set(refreshes.map((r) => r.key)).size, total, "every refresh had a key of its own");
  for (const [i, r] of refreshes.entries()) {
    assert.ok(i === 0 || r.at >= refreshes[i - 1].answered, "one after the other");
  }
});

story("tabs that all refresh at the same instant share neither turn nor key", {}, async (house) => {
  await house.loggedIn();
  const tabs = await Promise.all(Array.from({ length: 5 }, () => house.tab()));
  const times = 8;
  await Promise.all(tabs.map((tab) => tab.evaluate(async (n) => {
    for (let held; n > 0; n--) held = await app.accessToken(held);
  }, times)));
  const { refreshes } = house.front;
  assert.equal(new Set(refreshes.map((r) => r.key)).size, refreshes.length, "a key served twice");
  const { rotated, replayed, reused } = await house.outcomes();
  assert.deepEqual({ rotated, replayed, reused }, { rotated: tabs.length * times, replayed: 0, reused: 0 });
});

// lose makes the answer of the next refresh disappear after the server has
// committed it, and waits until the retry window is over.
async function lose(house, act) {
  house.front.fate = "lost";
  const cookie = await house.cookie();
  const outcome = await act();
  assert.equal(house.front.refreshes.at(-1).status, 200, "the server had answered");
  assert.equal((await house.cookie()).value, cookie.value, "the browser did not see it");
  await delay(2000); // the window of a second is over, and this much more
  return outcome;
}

story("a lost answer is fetched later with the same key", { RETRY_WINDOW: "1s" }, async (house) => {
  const tab = await house.loggedIn();
  const lost = await lose(house, () => renew(tab));
  assert.equal(lost.loggedOut, false, lost.error);
  const key = await retryKey(tab);
  assert.ok(key?.length >= 16);

  const other = await house.tab(); // the tab may have been closed meanwhile
  const { token, error } = await ask(other);
  assert.equal(error, undefined);
  assert.equal(await bearer(house, token), 200);
  assert.deepEqual(house.front.refreshes.map((r) => r.key), [key, key]);
  assert.equal(await retryKey(other), null, "the key went with the verdict");
  assert.ok((await renew(tab)).token, "and the next refresh is an ordinary one");
  assert.notEqual(house.front.refreshes.at(-1).key, key);
  const { rotated, replayed, reused } = await house.outcomes();
  assert.deepEqual({ rotated, replayed, reused }, { rotated: 2, replayed: 1, reused: 0 });
});

story("without a key the same loss would have ended the session", { RETRY_WINDOW: "1s" }, async (house) => {
  const tab = await house.loggedIn();
  const refresh = () => tab.evaluate((issuer) =>
    fetch(issuer + "/v1/refresh", { method: "POST", credentials: "include" })
      .then(async (r) => ({ status: r.status, code: (await r.json()).code }), () => "no answer"), house.issuer);
  assert.equal(await lose(house, refresh), "no answer");
  let late = await refresh();
  for (let tries = 1; late.status === 503 && tries < 100; tries++) { // of a server that has just stood still
    await new Promise((over) => setTimeout(over, 100));
    late = await refresh();
  }
  assert.deepEqual(late, { status: 401, code: "refresh_reused" });
});

for (const status of [503, 429]) {
  story(`after ${status} the client waits as told and sends the same key`, {}, async (house) => {
    const tab = await house.loggedIn();
    const cookie = await house.cookie();
    house.front.fate = { status, retryAfter: "2" };
    const refused = await renew(tab);
    assert.equal(refused.loggedOut, false, refused.error);
    assert.match(refused.error, new RegExp(`${status}`));
    assert.equal((await house.cookie()).value, cookie.value);
    const key = await retryKey(tab);
    assert.ok(key);

    assert.ok((await renew(tab)).token);
    const [first, second] = house.front.refreshes;
    assert.deepEqual([first.key, second.key], [key, key]);
    assert.ok(second.at - first.at >= 1900, `came back after ${second.at - first.at} ms, was told 2 s`);
    assert.equal(await retryKey(tab), null);
  });
}

story("a server that is away logs nobody out", {}, async (house) => {
  const tab = await house.loggedIn();
  const held = (await ask(tab)).token;
  const cookie = await house.cookie();
  await house.stopServer(); // the proxy answers 502, which the page may not even read
  const first = await ask(tab, held);
  assert.equal(first.loggedOut, false, first.error);
  const key = await retryKey(tab);
  assert.ok(key);
  const { port } = house.front;
  await house.front.close(); // now the connection is refused
  const second = await ask(tab, held);
  assert.equal(second.loggedOut, false, second.error);
  assert.equal(await retryKey(tab), key);
  assert.equal((await house.cookie()).value, cookie.value);
  assert.equal((await ask(tab)).token, held, "a token that still lives needs no server");

  await house.front.open(port);
  await house.startServer();
  const back = await poll("a token", async () => {
    const got = await ask(tab, held);
    assert.notEqual(got.loggedOut, true, got.error);
    return got.token;
  });
  assert.equal(await bearer(house, back), 200);
  assert.equal(house.front.refreshes.at(-1).key, key);
  assert.equal(await retryKey(tab), null);
});

story("after a logout every tab is logged out", {}, async (house) => {
  const tab = await house.loggedIn();
  const other = await house.tab();
  const { token } = await ask(other);
  assert.equal(await bearer(house, token), 200);
  await tab.evaluate(() => app.logOut().then(() => {}));
  assert.equal(await house.cookie(), undefined);

  assert.equal((await ask(tab)).loggedOut, true);
  assert.equal(await bearer(house, token), 401, "the other tab's token is refused");
  assert.equal((await ask(other, token)).loggedOut, true, "and so it learns of it");
  assert.equal((await ask(other)).loggedOut, true);
  assert.equal(await retryKey(tab), null);

  const status = await tab.evaluate(([i, e, p]) => app.logIn(i, e, p), [house.issuer, house.email, house.password]);
  assert.equal(status, 200);
  assert.ok((await ask(tab)).token);
  assert.ok((await ask(other)).token, "a login in one tab serves the others");
});

story("a page of an origin that is not allowed gets nothing", {}, async (house) => {
  const tab = await house.loggedIn();
  const cookie = await house.cookie();
  const before = await house.outcomes();
  for (const origin of [house.stranger, house.otherSite]) {
    const thief = await house.tab(origin);
    const own = await ask(thief);
    assert.equal(own.token, undefined, origin);
    const tries = await thief.evaluate(async (issuer) => {
      const calls = {
        refresh: ["/v1/refresh", { method: "POST" }],
        logout: ["/v1/logout", { method: "POST" }],
        blindRefresh: ["/v1/refresh", { method: "POST", mode: "no-cors" }],
        blindLogout: ["/v1/logout", { method: "POST", mode: "no-cors" }],
        read: ["/v1/me", {}],
      };
      const readable = [];
      for (const [name, [path, init]] of Object.entries(calls)) {
        await fetch(issuer + path, { credentials: "include", ...init }).then(() => readable.push(name), () => {});
      }
      return readable;
    }, house.issuer);
    assert.deepEqual(tries, [], `${origin} read answers`);
  }
  const sent = house.front.refreshes.filter((r) => r.cookie);
  assert.deepEqual([...new Set(sent.map((r) => r.status))], [403], "the same site's page sent the cookie, in vain");
  assert.ok(house.front.refreshes.some((r) => !r.cookie), "the other site's page could not even send it");
  assert.deepEqual(await house.outcomes(), before, "no refresh token was looked at");
  assert.equal((await house.cookie()).value, cookie.value);
  assert.ok((await renew(tab)).token, "the app is still logged in");
});

// The stories mostly wait, each in a house of its own: three at a time.
describe("docs/browser-client.js", { concurrency: 3 }, () => {
  before(async () => { browser = await openBrowser(); });
  after(() => browser?.close());
  for (const [name, settings, act] of stories) {
    test(name, { timeout: 90_000 }, async (t) => act(await House.open(t, browser, settings)));
  }
});
