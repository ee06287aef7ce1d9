"use strict";
// The routes out of /openapi.json, each with a form that calls it. The key stays in its field: it is kept nowhere.
const at = (id) => document.getElementById(id);
let described = null;

function made(tag, words = {}, ...inside) {
  const one = Object.assign(document.createElement(tag), words);
  one.append(...inside);
  return one;
}

function headers(more = {}) {
  const told = { ...more };
  if (at("key").value) told["X-API-Key"] = at("key").value;
  if (at("tenant").value) told["X-Tenant"] = at("tenant").value;
  return told;
}

function meant(schema, depth = 0) {
  // An example of a schema: what is required, and what has a value of its own.
  if (!schema || depth > 6) return null;
  if (schema.$ref) return meant(described.components.schemas[schema.$ref.split("/").pop()], depth + 1);
  if ("example" in schema) return schema.example;
  if ("default" in schema) return schema.default;
  if (schema.enum) return schema.enum[0];
  const one = (schema.anyOf || schema.oneOf || schema.allOf || [])[0];
  if (one) return meant(one, depth + 1);
  if (schema.type === "array") return [meant(schema.items, depth + 1)];
  if (schema.type === "object" || schema.properties) {
    const names = schema.required || Object.keys(schema.properties || {}).slice(0, 3);
    return Object.fromEntries(names.map((name) => [name, meant(schema.properties[name], depth + 1)]));
  }
  return { string: "", integer: 0, number: 0, boolean: false }[schema.type] ?? null;
}

async function told(answer) {
  const text = await answer.text();
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function form(path, method, route) {
  const fields = (route.parameters || []).filter((one) => one.in !== "header").map((one) => {
    const input = made("input", { name: one.name, required: one.required || false, placeholder: one.in });
    if (one.schema && "default" in one.schema && one.schema.default !== null) input.placeholder = one.schema.default;
    return { ...one, input };
  });
  const kinds = Object.entries((route.requestBody || {}).content || {});
  const file = kinds.length && kinds.every(([, kind]) => (kind.schema || {}).format === "binary");
  const body = kinds.length ? made(file ? "input" : "textarea", file ? { type: "file" } : { spellcheck: false }) : null;
  if (body && !file) body.value = JSON.stringify(meant(kinds[0][1].schema), null, 2);
  const out = made("pre", { hidden: true });
  const whole = made("form", {}, ...fields.map((one) => made("label", {}, one.name, one.input)));
  if (body) whole.append(made("label", { className: "body" }, "body: " + kinds.map(([kind]) => kind).join(", "), body));
  whole.append(made("button", { textContent: "Call" }));
  whole.onsubmit = async (event) => {
    event.preventDefault();
    let target = path;
    const query = new URLSearchParams();
    for (const { name, in: where, input } of fields) {
      if (where === "path") target = target.replace(`{${name}}`, encodeURIComponent(input.value));
      else if (input.value !== "") query.append(name, input.value);
    }
    const asked = { method: method.toUpperCase(), headers: headers() };
    if (body) {
      asked.body = file ? body.files[0] : body.value;
      asked.headers["Content-Type"] = file ? (body.files[0] || {}).type || kinds[0][0] : kinds[0][0];
    }
    out.hidden = false;
    out.textContent = "…";
    try {
      const answer = await fetch(target + (query.size ? `?${query}` : ""), asked);
      out.className = answer.ok ? "" : "bad";
      out.textContent = `${answer.status} ${answer.statusText}\n${await told(answer)}`;
    } catch (error) {
      out.className = "bad";
      out.textContent = String(error);
    }
  };
  return [whole, out];
}

function show() {
  const wanted = at("find").value.toLowerCase();
  const groups = new Map();
  for (const [path, methods] of Object.entries(described.paths)) {
    for (const [method, route] of Object.entries(methods)) {
      const says = (route.description || "").replace(/\n(?!\n)/g, " ");
      if (!`${method} ${path} ${says}`.toLowerCase().includes(wanted)) continue;
      const one = made("details", {}, made("summary", {}, made("b", { textContent: method.toUpperCase() }), path,
        made("span", { textContent: says.split(/(?<=[.;]) /)[0].replace(/;$/, ".") })));
      one.ontoggle = () => one.children.length > 1 || one.append(made("p", { textContent: says }), ...form(path, method, route));
      const group = path.startsWith("/api") ? "Gorse's API" : path.split("/").slice(1, 3).join("/");
      groups.set(group, [...(groups.get(group) || []), one]);
    }
  }
  at("routes").replaceChildren(...[...groups].flatMap(([group, all]) => [made("h2", { textContent: group }), ...all]));
}

async function enter() {
  const answer = await fetch("/openapi.json", { headers: headers() }).catch((error) => ({ ok: false, text: async () => String(error) }));
  at("said").className = answer.ok ? "" : "bad";
  if (answer.ok) {
    described = await answer.json();
    at("said").textContent = described.info.description;
    show();
  } else {
    at("said").textContent = answer.status === 401 ? "The routes are told to keys alone: type one." : await told(answer);
  }
}

at("enter").onsubmit = (event) => (event.preventDefault(), enter());
at("find").oninput = () => described && show();
enter();
