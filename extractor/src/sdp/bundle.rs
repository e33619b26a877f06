//! Bundles: media that share one pair of endpoints, whichever of their descriptions gives these
//! endpoints (RFC 8843).

use super::lines::fields;

/// The most members of all bundles of a description together, which is the limit of its media
/// descriptions.
const MAX_MEMBERS: usize = 64;

/// The index of a bundle in its description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BundleNumber(usize);

/// The members of each bundle, by the names that `a=mid` gives them.
#[derive(Default)]
pub(super) struct Bundles<'a> {
    members: Vec<(BundleNumber, &'a [u8])>,
}

impl<'a> Bundles<'a> {
    /// Adds a group. RFC 5888, 5: `a=group:BUNDLE audio video`; a description may have several
    /// groups.
    pub(super) fn add_group(&mut self, value: &'a [u8]) {
        let mut parts = fields(value);
        if parts
            .next()
            .is_some_and(|semantics| semantics.eq_ignore_ascii_case(b"BUNDLE"))
        {
            let before = self.members.len();
            self.members.extend(
                parts
                    .take(MAX_MEMBERS.saturating_sub(before))
                    .map(|mid| (BundleNumber(before), mid)),
            );
        }
    }

    /// The bundle with this member.
    pub(super) fn number_of(&self, mid: &[u8]) -> Option<BundleNumber> {
        self.members
            .iter()
            .find(|(_, member)| *member == mid)
            .map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members() {
        let mut bundles = Bundles::default();
        for group in [
            "BUNDLE a b",
            "LS a x",
            "bundle  c d",
            "BUNDLE",
            "BUNDLE b e",
        ] {
            bundles.add_group(group.as_bytes());
        }
        let number = |mid: &str| bundles.number_of(mid.as_bytes());
        assert!(number("a").is_some() && number("a") == number("b"));
        assert!(number("c").is_some() && number("c") == number("d") && number("c") != number("a"));
        assert!(number("e").is_some() && number("e") != number("b"));
        assert_eq!((number("x"), number("A"), number("")), (None, None, None));
    }

    #[test]
    fn a_few_lines_cannot_ask_for_much() {
        let group = format!("BUNDLE {}", "a ".repeat(1_000));
        let mut bundles = Bundles::default();
        (0..10).for_each(|_| bundles.add_group(group.as_bytes()));
        assert_eq!(bundles.members.len(), MAX_MEMBERS);
    }
}
