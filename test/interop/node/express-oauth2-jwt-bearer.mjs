import { once } from "node:events";
import express from "express";
import { auth } from "express-oauth2-jwt-bearer";
import { audience, issuer, jwksURL, lines } from "./lines.mjs";

// snippet: express-oauth2-jwt-bearer
const app = express();
app.use(auth({
  issuer, audience, jwksUri: jwksURL, tokenSigningAlg: "ES256",
  strict: true, // typ must be at+jwt
}));
app.get("/", (req, res) => res.send("hello " + req.auth.payload.sub));
// end

const server = app.listen(0, "127.0.0.1");
await once(server, "listening");
await lines(async (token) => {
  const answer = await fetch(`http://127.0.0.1:${server.address().port}/`, { headers: { Authorization: `Bearer ${token}` } });
  const text = await answer.text();
  if (!answer.ok || !text.startsWith("hello ")) {
    throw new Error(`${answer.status} ${answer.headers.get("www-authenticate")}`);
  }
});
server.close();
