/* People who log in by the authorization code flow, and everything that an issuer can get wrong.
 *
 * PUT /person {"sub": ..., "name": ..., "groups": [...]} sets who logs in from then on; their page asks nobody then. With
 * `null`, it is a form with the subject, as a person sees it. PUT /forgery sets what is forged from then on:
 *
 * - `claims` replace those of ID tokens (null removes one), `header` the header's; `key` is "other" for a key that is not
 *   published, "secret" for the text `secret`; `algorithm` names another one, "none" included; `token` replaces all of it;
 * - `discovery` replaces members of the discovery document, `keys` the set of keys: "rotated" publishes a second key and
 *   signs with it; `down` closes discovery, keys and token endpoint with 503.
 *
 * GET /fetched says how often discovery, keys and the token endpoint were asked.
 */

import { generateKeyPairSync } from 'node:crypto';

import { exportJWK, SignJWT, UnsecuredJWT, decodeJwt } from 'jose';

const FETCHED = { '/.well-known/openid-configuration': 'discovery', '/jwks': 'keys', '/token': 'token' };

async function pair(kind, options, kid, alg) {
  const { privateKey } = generateKeyPairSync(kind, options);
  return { ...(await exportJWK(privateKey)), kid, alg, use: 'sig', key: privateKey };
}

const rsa = (kid) => pair('rsa', { modulusLength: 2048 }, kid, 'RS256');
const ec = (kid) => pair('ec', { namedCurve: 'P-256' }, kid, 'ES256');

function published({ kty, n, e, crv, x, y, kid, alg, use }) {
  return JSON.parse(JSON.stringify({ kty, n, e, crv, x, y, kid, alg, use }));
}

async function read(ctx) {
  let text = '';
  for await (const chunk of ctx.req) text += chunk;
  return text;
}

export class People {
  static async make() {
    const people = new People();
    [people.first, people.elliptic, people.other, people.next] = await Promise.all([rsa('one'), ec('two'), rsa('one'), rsa('next')]);
    return people;
  }

  person = null;

  forgery = {};

  fetched = { discovery: 0, keys: 0, token: 0 };

  /** Of the provider. */
  get settings() {
    const account = (_, sub) => ({ accountId: sub, claims: () => ({ ...this.person, sub }) });
    return {
      jwks: { keys: [this.first, this.elliptic].map(({ key, ...jwk }) => jwk) },
      findAccount: account,
      claims: { openid: ['sub'], profile: ['name', 'groups', 'teams'], auth_time: null },
      conformIdTokenClaims: false,
      interactions: { url: (_, { uid }) => `/people/${uid}` },
      // People agree to everything.
      loadExistingGrant: async (ctx) => {
        const grant = new ctx.oidc.provider.Grant({ accountId: ctx.oidc.session.accountId, clientId: ctx.oidc.client.clientId });
        grant.addOIDCScope('openid profile orders offline_access');
        await grant.save();
        return grant;
      },
    };
  }

  /** Respond if it is for people or for the test. */
  async respond(provider, ctx) {
    if (ctx.path.startsWith('/people/')) {
      await this.#logIn(provider, ctx);
    } else if (ctx.path === '/person' || ctx.path === '/forgery') {
      this[ctx.path.slice(1)] = JSON.parse(await read(ctx));
      ctx.body = {};
    } else if (ctx.path === '/fetched') {
      ctx.body = this.fetched;
    } else if (ctx.path in FETCHED) {
      this.fetched[FETCHED[ctx.path]] += 1;
      if (!this.forgery.down) return false;
      ctx.status = 503;
    } else {
      return false;
    }
    return true;
  }

  async #logIn(provider, ctx) {
    const asked = this.person === null && ctx.method === 'GET';
    if (asked) {
      ctx.type = 'html';
      ctx.body = '<!doctype html><title>The company</title><form method="post"><label>User <input name="sub"></label><button>Go on</button></form>';
      return;
    }
    const accountId = this.person?.sub ?? new URLSearchParams(await read(ctx)).get('sub');
    await provider.interactionFinished(ctx.req, ctx.res, { login: { accountId } });
    ctx.respond = false;
  }

  /** Replace what the provider responds. */
  async forge(ctx) {
    const { discovery, keys } = this.forgery;
    if (ctx.path === '/.well-known/openid-configuration' && discovery) {
      ctx.body = JSON.parse(JSON.stringify({ ...ctx.body, ...discovery }));
    } else if (ctx.path === '/jwks' && keys) {
      ctx.body = { keys: keys === 'rotated' ? [this.first, this.next].map(published) : keys };
    } else if (ctx.path === '/token' && ctx.body?.id_token) {
      ctx.body = { ...ctx.body, id_token: await this.#idToken(ctx.body.id_token) };
    }
  }

  async #idToken(token) {
    const { claims = {}, header = {}, algorithm, key, keys } = this.forgery;
    if (Object.keys(this.forgery).length === 0) return token;
    if (this.forgery.token) return this.forgery.token;
    // Undefined members are left out.
    const forged = JSON.parse(JSON.stringify({ ...decodeJwt(token), ...claims }), (_, value) => value ?? undefined);
    if (algorithm === 'none') return new UnsecuredJWT(forged).encode();
    if (key === 'secret') {
      return new SignJWT(forged).setProtectedHeader({ alg: 'HS256', ...header }).sign(new TextEncoder().encode(this.forgery.secret));
    }
    const signer = keys === 'rotated' ? this.next : key === 'other' ? this.other : algorithm === 'ES256' ? this.elliptic : this.first;
    const fields = { alg: algorithm ?? signer.alg, kid: signer.kid, ...header };
    if (fields.kid === null) delete fields.kid;
    return new SignJWT(forged).setProtectedHeader(fields).sign(signer.key, { crit: { x: true } });
  }
}
