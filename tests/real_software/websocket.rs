//! SIP over WebSockets (RFC 7118): JsSIP calls JsSIP through Kamailio. The phones mask what they
//! send, the proxy does not, and the wire has each message of the call twice.

use std::path::Path;

use support::lab::{Lab, Program};

use super::comparison::check;

pub const WEBSOCKET_PORT: u16 = 5066;

const FILES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/real_software/websocket"
);

fn kamailio(lab: &mut Lab) {
    let (host, folder) = (lab.addresses[1], lab.folder().display());
    let line = format!(
        "kamailio -f {FILES}/kamailio.cfg -DD -E -Y {folder} -m 16 -M 8 \
         -A HOST={host} -A PORT={WEBSOCKET_PORT}"
    );
    let mut kamailio = Program::start(lab.phones[1].command(&line), "kamailio", lab.folder());
    kamailio.listens(WEBSOCKET_PORT);
    lab.keep(kamailio);
}

/// Starts a phone; both run in the caller's namespace.
fn jssip(lab: &Lab, name: &str, media_port: u16, callee: &str) -> Program {
    assert!(
        Path::new(FILES).join("node_modules/jssip").exists(),
        "scripts/setup installs JsSIP"
    );
    let [own, server] = lab.addresses;
    let line = format!(
        "node {FILES}/phone.js {server}:{WEBSOCKET_PORT} {own} {media_port} {name} {callee}"
    );
    Program::start(
        lab.phones[0].command(&line),
        &format!("jssip-{name}"),
        lab.folder(),
    )
}

#[test]
fn jssip_by_way_of_kamailio() {
    let mut lab = Lab::new();
    let tap = lab.tap();
    kamailio(&mut lab);
    let mut callee = jssip(&lab, "bob", 40_002, "");
    callee.says("registered");
    let mut caller = jssip(&lab, "alice", 40_000, "bob");
    assert!(caller.end().success());
    assert!(callee.end().success());
    let checked = check(lab, tap, 1);
    assert!(
        checked.count("websocket.mask == 1 && sip") >= 6,
        "INVITE, 180, 200, ACK, BYE, 200, by the phones"
    );
    assert!(
        checked.count("websocket.mask == 0 && sip") >= 6,
        "the same, by the proxy"
    );
}
