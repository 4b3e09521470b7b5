// Shows the API's documentation with Swagger UI, without its validator, which is another site's service.

window.SwaggerUIBundle({ url: "openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null });
