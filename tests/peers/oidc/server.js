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
 *
 * POST /families begins a family of refresh tokens for the client `basic`: {"refresh_token": ...}. Each use returns the
 * next; one that is used again revokes its whole family (RFC 9700 4.14.2). GET /families says how many uses there were,
 * and how many families were revoked. POST /hold keeps back the responses of the token endpoint from then on, until
 * POST /release; both answer {"held": N}, the responses that are kept back now.
 *
 * people.js has the other half: people log in, and ID tokens and discovery are forged.
 */

import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { parseArgs } from 'node:util';

import Provider from 'oidc-provider';

import { People } from './people.js';

const text = { type: 'string' };
const { values } = parseArgs({ options: { port: text, certificate: text, key: text, lifetime: text, clients: text } });

const counts = { issued: 0, accepted: 0, refused: 0 };

const families = { renewed: 0, revoked: 0 };

const people = await People.make();

const settings = {
  ...people.settings,
  clients: JSON.parse(readFileSync(values.clients, 'utf8')).map((client) => ({
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    scope: 'orders',
    ...client,
  })),
  features: { clientCredentials: { enabled: true }, devInteractions: { enabled: false } },
  // Clients of the API may have the first only; a scope that is not in the list at all would be ignored.
  scopes: ['orders', 'invoices', 'offline_access', 'openid', 'profile'],
  rotateRefreshToken: true,
  ttl: { ClientCredentials: Number(values.lifetime), AccessToken: Number(values.lifetime) },
};

/** A token of a client, as long as it lives. */
async function ofClient(provider, value) {
  const token = await provider.ClientCredentials.find(value);
  return token?.isValid ? token : undefined;
}

/** A token of a family, also shortly after its end: that is told in whole seconds, which these tests are not about. */
async function ofFamily(provider, value) {
  const token = await provider.AccessToken.find(value, { ignoreExpiration: true });
  return token && await provider.Grant.find(token.grantId) ? token : undefined;
}

/** The first refresh token of a new family. */
async function begin(provider) {
  const client = await provider.Client.find('basic');
  const grant = new provider.Grant({ accountId: 'ann', clientId: client.clientId });
  grant.addOIDCScope('orders offline_access');
  const grantId = await grant.save();
  return new provider.RefreshToken({
    accountId: 'ann', client, grantId, gty: 'authorization_code', scope: 'orders offline_access',
  }).save();
}

/** Keeps back responses of the token endpoint. */
const gate = { held: 0, closed: null, open: () => {} };

async function control(provider, ctx) {
  if (ctx.path === '/families') {
    ctx.body = ctx.method === 'POST' ? { refresh_token: await begin(provider) } : families;
    return;
  }
  if (ctx.path === '/hold') {
    gate.closed ??= new Promise((resolve) => { gate.open = resolve; });
  } else {
    gate.open();
    gate.closed = null;
  }
  ctx.body = { held: gate.held };
}

/** The API: whatever lies below /api/. */
async function api(provider, ctx) {
  const match = /^Bearer ([\x21-\x7e]+)$/.exec(ctx.get('authorization'));
  const token = match && (await ofClient(provider, match[1]) || await ofFamily(provider, match[1]));
  if (token) {
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
  provider.on('refresh_token.consumed', () => { families.renewed += 1; });
  provider.on('grant.revoked', () => { families.revoked += 1; });
  provider.use(async (ctx, next) => {
    if (['/families', '/hold', '/release'].includes(ctx.path)) {
      await control(provider, ctx);
      return;
    }
    if (await people.respond(provider, ctx)) {
      return;
    }
    if (ctx.path.startsWith('/api/')) {
      await api(provider, ctx);
    } else if (ctx.path === '/counts') {
      ctx.body = counts;
    } else {
      await next();
      await people.forge(ctx);
      if (ctx.path === '/token' && gate.closed) {
        gate.held += 1;
        await gate.closed;
        gate.held -= 1;
      }
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
