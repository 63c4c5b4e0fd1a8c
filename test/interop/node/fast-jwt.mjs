import { createVerifier } from "fast-jwt";
import buildGetJwks from "get-jwks";
import { audience, issuer, jwksURL, lines } from "./lines.mjs";

const { origin, pathname } = new URL(jwksURL);

// snippet: fast-jwt
const jwks = buildGetJwks({ jwksPath: pathname }); // npm install get-jwks; origin and pathname of the key set's URL
const check = createVerifier({
  key: ({ header }) => jwks.getPublicKey({ domain: origin, alg: header.alg, kid: header.kid }),
  allowedIss: issuer, allowedAud: audience, checkTyp: "at+jwt",
  algorithms: ["ES256"], requiredClaims: ["exp", "sub", "iss", "aud"],
});
// end

await lines(check);
