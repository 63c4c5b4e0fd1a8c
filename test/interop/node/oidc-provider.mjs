// Another OAuth server, for the torture kit: node-oidc-provider with rotating refresh tokens.
// Whoever asks /login gets a refresh token as one that the consent of a person would have
// brought; its token and revocation endpoints are its own. Each line of input is answered
// with the server's URL, and the end of input ends it.
import { createServer } from 'node:http'
import { createInterface } from 'node:readline'
import { Provider } from 'oidc-provider'

const clientId = 'app'
let provider
const server = createServer(async (request, response) => {
  if (request.url !== '/login') {
    return provider.callback()(request, response)
  }
  const client = await provider.Client.find(clientId)
  const grant = new provider.Grant({ accountId: 'ada', clientId })
  grant.addOIDCScope('openid offline_access')
  const token = new provider.RefreshToken({
    accountId: 'ada', client, grantId: await grant.save(), gty: 'authorization_code',
    scope: 'openid offline_access', authTime: Math.floor(Date.now() / 1000),
  })
  response.end(await token.save())
})
server.listen(0, '127.0.0.1', () => {
  const url = `http://127.0.0.1:${server.address().port}`
  provider = new Provider(url, {
    clients: [{
      client_id: clientId, client_secret: 'a-secret', redirect_uris: ['https://app.example.com/'],
      grant_types: ['authorization_code', 'refresh_token'],
    }],
    features: { revocation: { enabled: true }, devInteractions: { enabled: false } },
    rotateRefreshToken: true,
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  })
  const input = createInterface({ input: process.stdin })
  input.on('line', () => console.log(url))
  input.on('close', () => process.exit(0))
  console.log('ready')
})
