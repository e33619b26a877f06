//! Privileges: once everything is open, the process keeps only the right to open an interface
//! again.
//!
//! Capabilities belong to a thread and are inherited by the threads that it starts, so they are
//! dropped before the first one starts.

use std::ffi::CString;

use anyhow::Context;
use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    sys::prctl,
    unistd::{self, Gid, Uid, User},
};

/// The capability that capturing needs.
const NEEDED: Capability = Capability::CAP_NET_RAW;

/// Looks up a user by name.
pub(crate) fn user_of_name(name: &str) -> anyhow::Result<User> {
    let user =
        User::from_name(name).with_context(|| format!("cannot look up the user `{name}`"))?;
    user.with_context(|| {
        format!("there is no user `{name}`; name another with --user, or make it with `useradd --system {name}`")
    })
}

/// Raises the needed capability if it is permitted. A program file can hold it as permitted but not
/// effective (`setcap cap_net_raw+p`), so that the program starts, and explains the error, where
/// the capability is not available.
pub(crate) fn raise_needed() {
    // If it is not permitted, the error of opening the interface says so.
    let _ = caps::raise(None, CapSet::Effective, NEEDED);
    let is_there = caps::has_cap(None, CapSet::Permitted, NEEDED).unwrap_or(false);
    if !is_there && prctl::get_no_new_privs().unwrap_or(false) {
        tracing::warn!(
            "whoever started this allows no new privileges (no-new-privileges, allowPrivilegeEscalation: false): \
             the capability of the program's file does not count; allow them, or start it as root with NET_RAW alone"
        );
    }
}

/// Becomes this user, if one is given, and drops every capability except the one that re-opening
/// an interface needs.
pub(crate) fn drop_to(user: Option<&User>) -> anyhow::Result<()> {
    // This fails without CAP_SETPCAP; but then child programs cannot gain capabilities either.
    let _ = caps::clear(None, CapSet::Bounding);
    if let Some(user) = user {
        become_user(user)
            .with_context(|| format!("cannot become the user `{}`; start as root", user.name))?;
    }
    keep_needed().context("cannot drop the capabilities that are not needed")?;
    prctl::set_no_new_privs().context("cannot set no_new_privs")
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
    // This also clears the ambient set, which is limited by the inheritable one.
    caps::clear(None, CapSet::Inheritable)
}
