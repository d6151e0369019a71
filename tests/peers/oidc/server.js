/* A certified OAuth server (npm oidc-provider) as a real token endpoint, and a small API that takes its tokens.
 *
 * node server.js --port 0 --certificate FILE --key FILE --lifetime SECONDS --clients FILE
 *
 * Version 8 of oidc-provider is the last one that supports Node 20, which is Debian 13's. The lock holds no `resolved`
 * addresses: npm's own configuration says where packages come from (npm install --omit-lockfile-registry-resolved).
 *
 * It listens on 127.0.0.1 with https and prints one line when it does: {"port": N}. `clients` is a JSON list of client
 * metadata (RFC 7591). POST /token is the token endpoint; /api/... answers 200 to a valid bearer token and 401 with
 * error="invalid_token" (RFC 6750 3.1) to any other; GET /counts says how often each happened since the start.
 */

import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { parseArgs } from 'node:util';

import Provider from 'oidc-provider';

const text = { type: 'string' };
const { values } = parseArgs({ options: { port: text, certificate: text, key: text, lifetime: text, clients: text } });

const counts = { issued: 0, accepted: 0, refused: 0 };

const settings = {
  clients: JSON.parse(readFileSync(values.clients, 'utf8')).map((client) => ({
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    scope: 'orders',
    ...client,
  })),
  features: { clientCredentials: { enabled: true }, devInteractions: { enabled: false } },
  // Clients may have the first only; a scope that is not in the list at all would be ignored.
  scopes: ['orders', 'invoices'],
  ttl: { ClientCredentials: Number(values.lifetime) },
};

/** The API: whatever lies below /api/. */
async function api(provider, ctx) {
  const match = /^Bearer ([\x21-\x7e]+)$/.exec(ctx.get('authorization'));
  const token = match && await provider.ClientCredentials.find(match[1]);
  if (token && token.isValid) {
    counts.accepted += 1;
    ctx.body = { client_id: token.clientId, scope: token.scope ?? null };
  } else {
    counts.refused += 1;
    ctx.status = 401;
    ctx.set('WWW-Authenticate', 'Bearer error="invalid_token"');
    ctx.body = { error: 'invalid_token' };
  }
}

function start(port) {
  const provider = new Provider(`https://127.0.0.1:${port}`, settings);
  provider.on('client_credentials.saved', () => { counts.issued += 1; });
  provider.use(async (ctx, next) => {
    if (ctx.path.startsWith('/api/')) {
      await api(provider, ctx);
    } else if (ctx.path === '/counts') {
      ctx.body = counts;
    } else {
      await next();
    }
  });
  return provider.callback();
}

// The issuer's name holds the port, so the provider is made once the port is known.
const tls = { cert: readFileSync(values.certificate), key: readFileSync(values.key) };
const server = createServer(tls);
server.listen(Number(values.port), '127.0.0.1', () => {
  const { port } = server.address();
  server.on('request', start(port));
  process.stdout.write(`${JSON.stringify({ port })}\n`);
});
