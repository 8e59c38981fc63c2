// A plain JavaScript verifier of the same work, for the benchmark: it streams an
// export, rebuilds the canonical form and the digest of each event, follows the
// links and checks each signature, with a key that is parsed once.
import { createHash, createHmac, createPublicKey, timingSafeEqual, verify } from 'node:crypto';
import { createReadStream, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const { entry, secret } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const key = entry.key && createPublicKey({ key: Buffer.from(entry.key, 'base64'), format: 'der', type: 'spki' });

function canonical(value) {
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  return `{${Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join(',')}}`;
}

// The digest is what RSA signs as a hash, so the info in front of it is ours.
const info = Buffer.from('3031300d060960864801650304020105000420', 'hex');
const { publicDecrypt, constants } = await import('node:crypto');
const check = {
  'rsa-sha256': (digest, signature) => publicDecrypt({ key, padding: constants.RSA_PKCS1_PADDING }, signature).equals(Buffer.concat([info, digest])),
  ed25519: (digest, signature) => verify(null, digest, key, signature),
  'hmac-sha256': (digest, signature) => timingSafeEqual(createHmac('sha256', secret).update(digest).digest(), signature),
}[entry.alg];

const started = process.hrtime.bigint();
const before = process.cpuUsage();
let events = 0;
let head = null;
for await (const line of createInterface({ input: createReadStream(process.argv[3]), crlfDelay: Infinity })) {
  const row = JSON.parse(line);
  if (row.prev_hash !== head) throw new Error(`event ${row.id} does not follow`);
  const hash = createHash('sha256').update(canonical(row.payload));
  if (head !== null) hash.update(Buffer.from(head, 'hex'));
  const digest = hash.digest();
  if (!check(digest, Buffer.from(row.signature, 'base64'))) throw new Error(`event ${row.id} has a bad signature`);
  head = digest.toString('hex');
  events++;
}
const used = process.cpuUsage(before);
console.log(JSON.stringify({ events, head, wall: Number(process.hrtime.bigint() - started) / 1000, cpu: used.user + used.system }));
