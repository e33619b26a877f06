//! The page around the data. Its policy lets the browser load nothing, and run one script and one
//! style only, which it knows by their hashes.

use std::io::{self, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

/// The elements of the page.
const BODY: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// The script: its files, one behind the other, in a scope of their own.
const SCRIPT: &str = concat!(
    "(() => {\n\"use strict\";\n",
    include_str!("page/format.js"),
    include_str!("page/data.js"),
    include_str!("page/dom.js"),
    include_str!("page/filter.js"),
    include_str!("page/histogram.js"),
    include_str!("page/list.js"),
    include_str!("page/ladder.js"),
    include_str!("page/plots.js"),
    include_str!("page/call.js"),
    include_str!("page/main.js"),
    "})();\n"
);

/// Writes the page up to its data.
pub(super) fn begin(to: &mut impl Write) -> io::Result<()> {
    let (script, style) = (hash(SCRIPT), hash(STYLE));
    write!(
        to,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src '{script}'; \
         style-src '{style}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Calls</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{BODY}"
    )
}

/// Writes what follows the data.
pub(super) fn end(to: &mut impl Write) -> io::Result<()> {
    write!(to, "<script>{SCRIPT}</script>\n</body>\n</html>\n")
}

/// The hash of an element's content, as a policy has it (CSP 3, 2.3.1).
fn hash(content: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(content)))
}
