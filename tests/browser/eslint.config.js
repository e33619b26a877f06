// The page's files are one script: tsc knows the names that one has from another.
export default [
  {
    files: ["**/*.js"],
    languageOptions: { ecmaVersion: 2023, sourceType: "script" },
    rules: {
      "array-callback-return": "error",
      "curly": ["error", "multi-line"],
      "default-case-last": "error",
      "eqeqeq": "error",
      "no-console": "error",
      "no-constant-condition": "error",
      "no-control-regex": "off",
      "no-empty": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-param-reassign": "error",
      "no-redeclare": "error",
      "no-shadow": ["error", { "builtinGlobals": false }],
      "no-unreachable": "error",
      "no-unused-expressions": "error",
      "no-unused-vars": ["error", { "vars": "local", "args": "after-used" }],
      "no-use-before-define": ["error", { "functions": false, "variables": false }],
      "no-var": "error",
      "prefer-const": "error",
      // Nothing becomes HTML, and no style stands in an attribute.
      "no-restricted-properties": ["error",
        ...["innerHTML", "outerHTML", "insertAdjacentHTML", "write", "writeln", "srcdoc", "cssText"].map((property) => ({ property })),
      ],
      "no-restricted-globals": ["error", "fetch", "XMLHttpRequest", "WebSocket", "EventSource", "eval"],
    },
  },
];
