// Passkeys: enrolling one, and signing an answer with one. What is signed is the statement that the console wrote of this
// ticket, this page and this decision; the key stays on its device, and the console checks what comes back.
"use strict";

const said = document.getElementById("said");
const raw = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0));
const text = (data) => btoa(String.fromCharCode(...new Uint8Array(data))).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");

async function ask(address, fields) {
  const answer = await fetch(address, { method: "POST", body: fields, headers: { accept: "application/json" } });
  const told = await answer.json().catch(() => ({ problem: "the console gave no answer that can be read: load the page again" }));
  if (!answer.ok) throw new Error(told.problem || "the console refused");
  return told;
}

function tell(failure) {
  const own = { NotAllowedError: "No passkey was used: it was stopped, or took too long.", InvalidStateError: "This device has a passkey here already." };
  said.textContent = own[failure.name] || failure.message;
  said.hidden = false;
}

async function held(form, work) {
  said.hidden = true;
  const buttons = form.querySelectorAll("button");
  const held = [...buttons].filter((one) => !one.disabled);
  held.forEach((one) => { one.disabled = true; });
  try { await work(); } catch (failure) { tell(failure); } finally { held.forEach((one) => { one.disabled = false; }); }
}

const waiting = document.querySelector("form[data-wait]");
if (waiting) {  // for the reader: the console holds an answer to it, whatever this page does
  const yes = waiting.querySelector("button[value=approve]"), told = document.getElementById("wait");
  const from = Date.now() + Number(waiting.dataset.wait);
  yes.disabled = true;
  const tick = setInterval(() => {
    if (Date.now() < from) return;
    clearInterval(tick);
    yes.disabled = false;
    told.textContent = "A yes counts from now on.";
  }, 250);
}

document.getElementById("answer")?.addEventListener("submit", (event) => {
  const form = event.currentTarget;
  if (!("signed" in form.dataset)) return;
  event.preventDefault();
  const fields = new URLSearchParams(new FormData(form, event.submitter));
  held(form, async () => {
    const offer = await ask(form.dataset.prepare, fields);
    if (!offer.credentials.length) throw new Error("You have no passkey yet: enrol one first, on the page of your passkeys.");
    const made = await navigator.credentials.get({ publicKey: {
      challenge: raw(offer.challenge), rpId: offer.rp, userVerification: "required", timeout: 120000,
      allowCredentials: offer.credentials.map((id) => ({ type: "public-key", id: raw(id) })),
    } });
    const done = await ask(form.action, new URLSearchParams({
      proof: form.elements.proof.value, statement: offer.statement, id: text(made.rawId),
      authenticator: text(made.response.authenticatorData), client: text(made.response.clientDataJSON), signature: text(made.response.signature),
    }));
    location.assign(done.next);
  });
});

document.getElementById("enrol")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.currentTarget, fields = new URLSearchParams(new FormData(form));
  held(form, async () => {
    const begun = await ask(form.dataset.begin, fields);
    const made = await navigator.credentials.create({ publicKey: {
      challenge: raw(begun.challenge), rp: { id: begun.rp, name: "citywatch" }, attestation: "none", timeout: 120000,
      user: { id: raw(begun.user), name: begun.person, displayName: begun.person },
      pubKeyCredParams: [{ type: "public-key", alg: -8 }, { type: "public-key", alg: -7 }],
      authenticatorSelection: { userVerification: "required", residentKey: "preferred" },
      excludeCredentials: begun.existing.map((id) => ({ type: "public-key", id: raw(id) })),
    } });
    fields.set("attestation", text(made.response.attestationObject));
    fields.set("client", text(made.response.clientDataJSON));
    const done = await ask(form.action, fields);
    location.assign(done.next);
  });
});
