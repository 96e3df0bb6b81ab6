// Who looks at the page, where the service asks for keys. The key goes into a cookie that scripts
// cannot read: event streams and tiles need it too, and neither can carry a header.

import * as api from "./api.js";
import { announce, byId } from "./elements.js";

const UNAUTHENTICATED = 401;
const dialog = byId("sign-in");
const field = byId("key");

/** Return once somebody is signed in, or at once where the service is open to all. */
export async function startSession() {
  const session = await api.patiently(api.readSession);
  if (!session.asks_for_key) return session;
  if (session.tenant === null) {
    await keyGiven();
    return startSession();
  }
  offerToLeave(session.tenant);
  return session;
}

/** Ask until the service takes a key. */
function keyGiven() {
  dialog.showModal();
  return new Promise((resolve) => {
    byId("sign-in-form").onsubmit = async (event) => {
      event.preventDefault();
      byId("key-wrong").textContent = "";
      try {
        await api.signIn(field.value.trim());
      } catch (problem) {
        refuse(problem);
        return;
      }
      field.value = "";
      dialog.close();
      resolve();
    };
  });
}

function refuse(problem) {
  const unknown = problem.status === UNAUTHENTICATED;
  byId("key-wrong").textContent =
    unknown ? "The service does not know this key, or it has expired." : problem.message;
  field.setAttribute("aria-invalid", "true");
  field.select();
  field.focus();
}

function offerToLeave(tenant) {
  const button = byId("sign-out");
  button.textContent = `Sign out ${tenant}`;
  button.hidden = false;
  button.onclick = async () => {
    await api.signOut();
    announce("Signed out");
    location.assign("/");
  };
}

// Leaving by Escape would leave a page that can do nothing.
dialog.addEventListener("cancel", (event) => event.preventDefault());
