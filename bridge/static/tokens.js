// The token of a connection, which all its requests use until the server wants another one.

export function createTokens(getToken) {
  let token = null;

  // With `fresh`, asks for a new one. Resolves to null without `getToken`.
  function get(fresh = false) {
    if (!getToken) return Promise.resolve(null);
    if (fresh) token = null;
    token ??= Promise.resolve()
      .then(() => getToken())
      .then(checked);
    const asked = token;
    // A failure is not kept: the next request asks again.
    asked.catch(() => asked === token && (token = null));
    return asked;
  }

  async function headers() {
    const value = await get();
    return value ? { Authorization: `Bearer ${value}` } : {};
  }

  return { get, headers, renews: Boolean(getToken) };
}

function checked(token) {
  if (token === null || token === undefined || (typeof token === "string" && /^[\x21-\x7e]*$/.test(token))) return token;
  throw new TypeError("getToken() must return a token as text, a promise of one, or null.");
}

// What a token allows, as text: tabs share a stream only if this is the same. Of a JWT, when it was made does not count.
export async function keyOf(token) {
  if (!token) return "";
  const bytes = new TextEncoder().encode(claimsOf(token) ?? token);
  const hash = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function claimsOf(token) {
  try {
    const binary = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(binary, (character) => character.charCodeAt(0))));
    const kept = Object.entries(claims).filter(([name]) => !["exp", "iat", "jti", "nbf"].includes(name));
    return JSON.stringify(kept.sort(([a], [b]) => (a < b ? -1 : 1)));
  } catch {
    return null;
  }
}
