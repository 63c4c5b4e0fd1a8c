import { createRemoteJWKSet, jwtVerify } from "jose";
import { audience, issuer, jwksURL, lines } from "./lines.mjs";

// snippet: jose
const keys = createRemoteJWKSet(new URL(jwksURL));
const check = (token) => jwtVerify(token, keys, {
  issuer, audience, typ: "at+jwt", algorithms: ["ES256"], requiredClaims: ["exp", "sub"],
});
// end

await lines(check);
