// The proof that an entry is in the log, computed here: RFC 9162 §2.1.3.2 with SHA-256, and the head's signature (C2SP
// signed-note, Ed25519) under the log's key that stands on the page. Whatever does not fit is said to have failed, and
// nothing that failed is followed by a yes.
"use strict";

const box = document.getElementById("proof");
const steps = document.getElementById("steps");
const verdict = document.getElementById("verdict");
const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
const hex = (data) => [...data].map((one) => one.toString(16).padStart(2, "0")).join("");
const same = (a, b) => a.length === b.length && a.every((one, i) => one === b[i]);

class Wrong extends Error {}

async function sha256(...parts) {
  const whole = new Uint8Array(parts.reduce((size, one) => size + one.length, 0));
  parts.reduce((at, one) => { whole.set(one, at); return at + one.length; }, 0);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
}

function step(text, detail) {
  const item = document.createElement("li"), mono = document.createElement("code");
  item.className = "held";
  item.textContent = text;
  if (detail) { mono.textContent = detail; item.append(document.createElement("br"), mono); }
  steps.append(item);
}

// RFC 9162 §2.1.3.2, with big integers: a log may be longer than 2^53.
async function rootOf(leaf, index, size, path) {
  let fn = BigInt(index), sn = BigInt(size) - 1n, r = leaf;
  if (fn > sn) throw new Wrong("the entry's number is not below the size of the log");
  const left = Uint8Array.of(1);
  for (const p of path) {
    if (sn === 0n) throw new Wrong("the proof has too many hashes");
    if (fn & 1n || fn === sn) {
      r = await sha256(left, p, r);
      while (!(fn & 1n) && fn !== 0n) { fn >>= 1n; sn >>= 1n; }
    } else r = await sha256(left, r, p);
    fn >>= 1n; sn >>= 1n;
  }
  if (sn !== 0n) throw new Wrong("the proof has too few hashes");
  return r;
}

// A signed note: its text up to the empty line, then a line for each signature.
function readNote(note) {
  const at = note.lastIndexOf("\n\n");
  if (at < 0) throw new Wrong("the head is not a signed note");
  const text = note.slice(0, at + 1), lines = text.split("\n");
  const signatures = note.slice(at + 2).split("\n").filter(Boolean).map((line) => {
    const found = /^— (\S+) (\S+)$/.exec(line);
    if (!found) throw new Wrong("a signature line cannot be read");
    return { name: found[1], data: bytes(found[2]) };
  });
  return { text, origin: lines[0], size: lines[1], root: bytes(lines[2]), signatures };
}

async function keyOf(written) {
  const plus = written.indexOf("+"), name = written.slice(0, plus), [hash, data] = [written.slice(plus + 1, plus + 9), bytes(written.slice(plus + 10))];
  if (data[0] !== 1 || data.length !== 33) throw new Wrong("the log's key is of a kind that this script does not know");
  const id = (await sha256(new TextEncoder().encode(`${name}\n`), data)).slice(0, 4);
  if (hex(id) !== hash) throw new Wrong("the log's key does not fit its own name");
  return { name, id, raw: data.slice(1) };
}

async function signed(note, key) {
  const line = note.signatures.find((one) => one.name === key.name && same(one.data.slice(0, 4), key.id));
  if (!line) throw new Wrong("the head is not signed by this log");
  let imported;
  try {
    imported = await crypto.subtle.importKey("raw", key.raw, { name: "Ed25519" }, false, ["verify"]);
  } catch {
    return null;
  }
  return crypto.subtle.verify({ name: "Ed25519" }, imported, line.data.slice(4), new TextEncoder().encode(note.text));
}

async function verify() {
  steps.replaceChildren();
  verdict.textContent = "";
  verdict.className = "";
  try {
    const answer = await fetch(box.dataset.proof, { headers: { accept: "application/json" } });
    const proof = await answer.json();
    if (!answer.ok) throw new Wrong(proof.problem || "the console gave no proof");
    if (String(proof.index) !== box.dataset.index) throw new Wrong("this is the proof of another entry");
    const leaf = bytes(proof.leaf);
    const hash = await sha256(Uint8Array.of(0), leaf);
    step("The entry’s own bytes were hashed", hex(hash));
    const note = readNote(proof.checkpoint), key = await keyOf(box.dataset.key);
    if (note.origin !== key.name) throw new Wrong("the head is another log’s");
    if (note.size !== String(proof.tree_size)) throw new Wrong("the proof is for a log of another size than the head");
    const root = await rootOf(hash, proof.index, proof.tree_size, proof.hashes.map(bytes));
    if (!same(root, note.root)) throw new Wrong("the hashes do not lead to the root that the head names: the entry, or the proof, was changed");
    step(`${proof.hashes.length} hashes lead from it to the root of ${note.size} entries`, hex(root));
    const good = await signed(note, key);
    if (good === false) throw new Wrong("the signature of the head is not the log’s");
    if (good === null) {
      step("This browser cannot check Ed25519 signatures: the head was not checked");
      verdict.textContent = "The entry is under this head; whether the log signed the head, this browser cannot say.";
      verdict.className = "banner";
      return;
    }
    step("The head is signed with the log’s key", key.name);
    verdict.textContent = "It is in the log, as it stands here.";
    verdict.className = "pill allow";
  } catch (failure) {
    verdict.textContent = `It does not hold: ${failure instanceof Wrong ? failure.message : "the proof cannot be read"}.`;
    verdict.className = "problem";
  }
}

document.getElementById("verify")?.addEventListener("click", verify);
