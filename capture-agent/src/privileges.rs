//! What this process may do: once everything is open, no more than open an interface again.
//!
//! Capabilities belong to a thread and are inherited by those that it starts: they are given up
//! before there is another.

use std::ffi::CString;

use anyhow::Context;
use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    sys::prctl,
    unistd::{self, Gid, Uid, User},
};

/// What capturing needs.
const NEEDED: Capability = Capability::CAP_NET_RAW;

/// The user of this name.
pub(crate) fn user_of_name(name: &str) -> anyhow::Result<User> {
    let user =
        User::from_name(name).with_context(|| format!("the user `{name}` cannot be looked up"))?;
    user.with_context(|| {
        format!("there is no user `{name}`; name another with --user, or make it with `useradd --system {name}`")
    })
}

/// Makes use of what capturing needs, if it may be used: a program file can hold the capability as
/// one to be taken up (`setcap cap_net_raw+p`), so that it starts also where the capability is not
/// to be had, and can say so.
pub(crate) fn take_up() {
    // What is not permitted is not there: opening the interface says what is missing.
    let _ = caps::raise(None, CapSet::Effective, NEEDED);
    let is_there = caps::has_cap(None, CapSet::Permitted, NEEDED).unwrap_or(false);
    if !is_there && prctl::get_no_new_privs().unwrap_or(false) {
        tracing::warn!(
            "whoever started this allows no new privileges (no-new-privileges, allowPrivilegeEscalation: false): \
             the capability of the program's file does not count; allow them, or start it as root with NET_RAW alone"
        );
    }
}

/// Becomes this user, if one is given, and gives up every capability but the one that re-opening an
/// interface needs.
pub(crate) fn give_up(user: Option<&User>) -> anyhow::Result<()> {
    // Whoever may not limit what programs inherit (CAP_SETPCAP) cannot give them more, either.
    let _ = caps::clear(None, CapSet::Bounding);
    if let Some(user) = user {
        become_user(user)
            .with_context(|| format!("cannot become the user `{}`; that takes root", user.name))?;
    }
    keep_needed().context("the capabilities that are not needed cannot be given up")?;
    prctl::set_no_new_privs().context("new privileges cannot be renounced")
}

fn become_user(user: &User) -> anyhow::Result<()> {
    if (Uid::effective(), Gid::effective()) == (user.uid, user.gid) {
        return Ok(());
    }
    prctl::set_keepcaps(true)?;
    unistd::initgroups(&CString::new(user.name.as_str())?, user.gid)?;
    unistd::setresgid(user.gid, user.gid, user.gid)?;
    unistd::setresuid(user.uid, user.uid, user.uid)?;
    prctl::set_keepcaps(false)?;
    Ok(())
}

fn keep_needed() -> Result<(), caps::errors::CapsError> {
    let has_needed = caps::has_cap(None, CapSet::Permitted, NEEDED)?;
    let kept: CapsHashSet = has_needed.then_some(NEEDED).into_iter().collect();
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    // With these, what was given to be inherited is gone as well.
    caps::clear(None, CapSet::Inheritable)
}
