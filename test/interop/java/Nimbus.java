import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.source.JWKSource;
import com.nimbusds.jose.jwk.source.JWKSourceBuilder;
import com.nimbusds.jose.proc.DefaultJOSEObjectTypeVerifier;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URL;
import java.util.Set;

/** Answers the runner: for each token on stdin, one line on stdout. */
public class Nimbus {
  public static void main(String[] args) throws Exception {
    String issuer = System.getenv("ISSUER"), audience = System.getenv("AUDIENCE"), jwksURL = System.getenv("JWKS");
    // snippet: nimbus
    JWKSource<SecurityContext> keys = JWKSourceBuilder.create(new URL(jwksURL)).build();
    var processor = new DefaultJWTProcessor<SecurityContext>();
    processor.setJWSTypeVerifier(new DefaultJOSEObjectTypeVerifier<>(new JOSEObjectType("at+jwt")));
    processor.setJWSKeySelector(new JWSVerificationKeySelector<>(JWSAlgorithm.ES256, keys));
    processor.setJWTClaimsSetVerifier(new DefaultJWTClaimsVerifier<>(audience,
        new JWTClaimsSet.Builder().issuer(issuer).build(), Set.of("exp", "sub")));
    // JWTClaimsSet claims = processor.process(token, null);
    // end
    System.out.println("ready");
    var in = new BufferedReader(new InputStreamReader(System.in));
    for (String token = in.readLine(); token != null; token = in.readLine()) {
      String answer = "ok";
      try {
        processor.process(token, null);
      } catch (Exception refusal) {
        answer = "no " + refusal.toString().replaceAll("\\s+", " ");
      }
      System.out.println(answer);
    }
    System.exit(0); // the key source has threads of its own
  }
}
