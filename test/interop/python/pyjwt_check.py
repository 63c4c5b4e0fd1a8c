import jwt
from lines import audience, issuer, jwks_url, lines

# snippet: pyjwt
keys = jwt.PyJWKClient(jwks_url, timeout=5)


def check(token):
    key = keys.get_signing_key_from_jwt(token)
    parts = jwt.decode_complete(token, key, algorithms=["ES256"], issuer=issuer, audience=audience,
                                options={"require": ["exp", "iss", "aud", "sub"]})
    if parts["header"].get("typ") != "at+jwt":  # PyJWT does not look at typ
        raise jwt.InvalidTokenError("not an access token")
    return parts["payload"]
# end


lines(check)
