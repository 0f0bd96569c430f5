// Shows /openapi.json with Swagger UI, in the colours that the browser prefers.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const followColours = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
followColours();
dark.addEventListener("change", followColours);

/** Of each error leave the codes, as links. With their schemas and examples the page takes ten times as long. */
function shorten(openapi) {
  for (const operations of Object.values(openapi.paths)) {
    for (const { responses } of Object.values(operations)) {
      for (const status of Object.keys(responses).filter((one) => Number(one) >= 400)) {
        const name = responses[status].$ref?.split("/").at(-1);
        const { description, content } = name ? openapi.components.responses[name] : responses[status];
        const codes = Object.keys(content["application/problem+json"].examples);
        responses[status] = {
          description: description.replace(/`([a-z_]+)`/g, (code, text) => codes.includes(text) ? `[${code}](/docs/errors#${text})` : code),
        };
      }
    }
  }
  delete openapi.components.examples;
  delete openapi.components.responses;
  return openapi;
}

async function show() {
  const response = await fetch("/openapi.json");
  SwaggerUIBundle({
    spec: shorten(await response.json()),
    dom_id: "#reference",
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: -1,  // 250 schemas would follow; each operation shows its own
    displayRequestDuration: true,
    filter: true,
    syntaxHighlight: { activated: false },  // it would hang on large answers
    validatorUrl: null,  // an address of another host by default
    withCredentials: true,
  });
}

show();
