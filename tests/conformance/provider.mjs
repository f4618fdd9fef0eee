// A provider of OpenID Connect for one client: PORT, REDIRECT. Whoever signs in is called as they say.
import Provider from "oidc-provider";

const [port, redirect] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: "citywatch", client_secret: "swordfish", redirect_uris: [redirect], response_types: ["code"],
    grant_types: ["authorization_code"],
  }],
  pkce: { required: () => true },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
