//! Turns signals into requests.

use std::{io, sync::mpsc::Sender, thread};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1},
    iterator::Signals,
};

/// A request from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    End,
    Rotate,
    Report,
}

/// Catches the signals: from here on they do not end the process.
pub(crate) fn catch() -> io::Result<Signals> {
    Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])
}

/// Forwards signals as requests, from a thread that waits for them.
pub(crate) fn pass_on(mut signals: Signals, to: Sender<Request>) -> io::Result<()> {
    let forward = move || {
        for signal in signals.forever() {
            let request = match signal {
                SIGHUP => Request::Rotate,
                SIGUSR1 => Request::Report,
                _ => Request::End,
            };
            if to.send(request).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(forward)?;
    Ok(())
}
