//! Errors of reading a capture, by the action that they call for.

use std::io;

use shared::pcap::LinkType;

/// The reason why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The capture is gone: nobody needs to be told.
    #[error("{0}")]
    Gone(String),
    /// The disk is full, or this process has reached a limit. The capture is not at fault, and is
    /// tried again.
    #[error("{0}")]
    Environment(String),
    /// It is no capture. It is not tried again.
    #[error("{0}")]
    NotACapture(String),
    /// The link type of its frames is not supported. It is not tried again.
    #[error("its frames are of a kind that is not read: {0}")]
    UnsupportedLink(LinkType),
    /// It has more decompressed bytes than the user allows.
    #[error("{0}")]
    TooLarge(String),
    /// It has more decompressed bytes than there is room for, although there is much room.
    #[error("{0}")]
    NoRoom(String),
    /// It cannot be read, or permission is missing. It is tried again.
    #[error("{0}")]
    Unreadable(String),
}

impl InputError {
    /// The kind of an error that the system reports for a capture, with a sentence.
    #[must_use]
    pub fn of(error: &io::Error, sentence: String) -> Self {
        let is_of_process = error
            .raw_os_error()
            .is_some_and(|code| [nix::libc::EMFILE, nix::libc::ENFILE].contains(&code));
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::OutOfMemory => Self::Environment(sentence),
            _ if is_of_process => Self::Environment(sentence),
            io::ErrorKind::NotFound => Self::Gone(sentence),
            _ => Self::Unreadable(sentence),
        }
    }

    /// The same, with a sentence that begins with the failed action.
    pub(super) fn while_doing(what: &str) -> impl Fn(io::Error) -> Self {
        move |error| Self::of(&error, format!("{what}: {error}"))
    }

    /// An error of a temporary file, which is not the fault of the capture.
    pub(super) fn of_scratch(what: String) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Environment(format!("{what}: {error}"))
    }
}

impl From<io::Error> for InputError {
    fn from(error: io::Error) -> Self {
        Self::of(&error, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capture_is_to_blame_or_not() {
        let of = |error: io::Error| InputError::from(error);
        assert!(matches!(
            of(io::ErrorKind::NotFound.into()),
            InputError::Gone(_)
        ));
        assert!(matches!(
            of(io::Error::from_raw_os_error(nix::libc::EIO)),
            InputError::Unreadable(_)
        ));
        assert!(matches!(
            of(io::ErrorKind::PermissionDenied.into()),
            InputError::Unreadable(_)
        ));
        for code in [
            nix::libc::ENOSPC,
            nix::libc::EDQUOT,
            nix::libc::ENOMEM,
            nix::libc::EMFILE,
            nix::libc::ENFILE,
        ] {
            assert!(
                matches!(
                    of(io::Error::from_raw_os_error(code)),
                    InputError::Environment(_)
                ),
                "{code}"
            );
        }
        let scratch =
            InputError::of_scratch("no temporary file".to_owned())(io::ErrorKind::NotFound.into());
        assert!(
            matches!(scratch, InputError::Environment(text) if text.starts_with("no temporary file: "))
        );
    }
}
