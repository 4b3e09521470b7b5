// The API's document, shown by Swagger UI. Its validator is a service of elsewhere.

window.SwaggerUIBundle({ url: "openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null });
