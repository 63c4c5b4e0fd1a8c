// lines answers the runner: for each token on stdin, one line on stdout, "ok"
// or "no" and the reason. What the verifier throws is its refusal.
import { createInterface } from "node:readline";

export async function lines(check) {
  process.stdout.write("ready\n");
  for await (const token of createInterface({ input: process.stdin })) {
    let answer = "ok";
    try {
      await check(token);
    } catch (error) {
      answer = "no " + String(error.message ?? error).replaceAll(/\s+/g, " ");
    }
    process.stdout.write(answer + "\n");
  }
}

export const { ISSUER: issuer, AUDIENCE: audience, JWKS: jwksURL, ALG: alg } = process.env;
