import { createRemoteJWKSet, jwtVerify } from "jose";
import { audience, issuer, jwksURL, lines } from "./lines.mjs";

// snippet: jose-ml-dsa
const keys = createRemoteJWKSet(new URL(jwksURL));
const check = (token) => jwtVerify(token, keys, {
  issuer, audience, typ: "at+jwt", algorithms: ["ML-DSA-44"], requiredClaims: ["exp", "sub"],
});
// end

await lines(check);
