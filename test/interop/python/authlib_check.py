import time

import requests
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from lines import audience, issuer, jwks_url, lines


class Keys:
    """A key set fetched anew after ten minutes."""

    until = 0
    jwks = None

    def get(self):
        if time.time() >= self.until:
            answer = requests.get(jwks_url, timeout=5)
            answer.raise_for_status()
            self.jwks, self.until = answer.json(), time.time() + 600
        return self.jwks


cached = Keys()


# snippet: authlib
class AccessTokens(JWTBearerTokenValidator):
    def get_jwks(self):  # Authlib leaves caching to you: cached.get() keeps the answer of the key set's URL for 10 min
        return {"keys": [key for key in cached.get()["keys"] if key["alg"] == "ES256"]}  # the allow-list


def check(token):
    claims = AccessTokens(issuer=issuer, resource_server=audience).authenticate_token(token)
    claims.header["typ"]  # Authlib refuses a wrong typ, but not a missing one
    claims.validate()
# end


lines(check)
