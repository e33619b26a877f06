//! Why an upload failed, as one sentence that says what to do.

use std::{error::Error, fmt, net::Ipv4Addr};

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use crate::outputs::text::printable;

/// Why an upload failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There are none.
    NoCredentials(String),
    /// There are some that the store does not know, or not any more.
    BadCredentials(String),
    /// They may not do this.
    AccessDenied(String),
    NoSuchBucket,
    /// The bucket is somewhere else; the store may say where.
    WrongRegion(Option<String>),
    ClockSkew,
    Unreachable(String),
    /// It takes too long.
    TooSlow,
    /// The store says that it cannot now.
    Overloaded(String),
    /// What the store has received is not what was sent.
    Garbled,
    /// The store does not do what it is asked for.
    Refused(String),
    /// The store does not take this object.
    BadObject(String),
    /// Another call's object has the key.
    Occupied,
    /// The file cannot be read.
    Unreadable(String),
    /// The file is not there, and the object is not either.
    Missing,
}

impl Trouble {
    /// Whether it would be the same with any other file.
    pub(super) fn is_of_store(&self) -> bool {
        !matches!(
            self,
            Self::Garbled
                | Self::BadObject(_)
                | Self::Occupied
                | Self::Unreadable(_)
                | Self::Missing
        )
    }

    /// What a call to the store came to.
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::TimeoutError(_) => Self::TooSlow,
            // Also by a time-out: there is one for connecting only.
            SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
                Self::Unreachable(causes(error))
            }
            SdkError::ServiceError(context) => {
                let (response, said) = (context.raw(), context.err());
                Self::answered(
                    response.status().as_u16(),
                    said.code(),
                    said.message(),
                    response.headers().get(REGION),
                )
            }
            _ => Self::Refused(causes(error)),
        }
    }

    /// Codes are those of the S3 API reference, "Error responses"; `NotSignedUp` is what some other
    /// stores say of a key that they do not know.
    fn answered(
        status: u16,
        code: Option<&str>,
        message: Option<&str>,
        region: Option<&str>,
    ) -> Self {
        let words = || match (code, message) {
            (Some(code), Some(message)) => printable(format!("{code}: {message}").as_bytes()),
            (Some(code), None) => printable(code.as_bytes()),
            _ => format!("HTTP status {status}"),
        };
        // "The authorization header is malformed; the region 'us-east-1' is wrong; expecting
        // 'eu-west-1'"
        let expected =
            message.and_then(|message| message.split_once("expecting '")?.1.split_once('\''));
        let region = region.or(expected.map(|(region, _)| region));
        match (code.unwrap_or_default(), status) {
            ("NoSuchBucket", _) => Self::NoSuchBucket,
            ("AuthorizationHeaderMalformed", _) if region.is_none() => {
                Self::BadCredentials(words())
            }
            (
                "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException",
                _,
            )
            | (_, 301 | 307) => {
                Self::WrongRegion(region.map(|region| printable(region.as_bytes())))
            }
            ("RequestTimeTooSkewed" | "RequestExpired", _) => Self::ClockSkew,
            (
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "NotSignedUp"
                | "ExpiredToken"
                | "InvalidToken"
                | "TokenRefreshRequired",
                _,
            ) => Self::BadCredentials(words()),
            ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) | (_, 401 | 403) => {
                Self::AccessDenied(words())
            }
            (
                "BadDigest"
                | "InvalidDigest"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch",
                _,
            ) => Self::Garbled,
            ("RequestTimeout", _) => Self::TooSlow,
            ("EntityTooLarge" | "EntityTooSmall" | "KeyTooLongError" | "NoSuchUpload", _) => {
                Self::BadObject(words())
            }
            ("SlowDown" | "ServiceUnavailable" | "InternalError", _) | (_, 429 | 500..) => {
                Self::Overloaded(words())
            }
            _ => Self::Refused(words()),
        }
    }

    /// As a sentence, for a bucket in a region at an endpoint.
    pub(super) fn at<'a>(&'a self, place: &'a Place) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| self.say(place, f))
    }

    fn say(
        &self,
        Place {
            bucket,
            region,
            endpoint,
            host_of_bucket,
        }: &Place,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        match self {
            Self::NoCredentials(why) => write!(
                f,
                "there are no credentials for S3 ({why}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile in AWS_PROFILE, or give this machine a role"
            ),
            Self::BadCredentials(words) => write!(
                f,
                "{endpoint} does not accept the credentials ({words}); correct them: the environment comes before the profile, the profile before the machine's role"
            ),
            Self::AccessDenied(words) => write!(
                f,
                "the credentials do not allow to write to the bucket {bucket} ({words}); they need s3:PutObject below the prefix of --s3-uri, and what the bucket's encryption and tags ask for"
            ),
            Self::NoSuchBucket => {
                write!(
                    f,
                    "there is no bucket {bucket} at {endpoint}; make it, or correct --s3-uri"
                )
            }
            Self::WrongRegion(Some(right)) => {
                write!(
                    f,
                    "the bucket {bucket} is in the region {right}, not in {region}; give --s3-region {right}"
                )
            }
            Self::WrongRegion(None) => {
                write!(
                    f,
                    "the bucket {bucket} is not in the region {region}; correct --s3-region"
                )
            }
            Self::ClockSkew => write!(
                f,
                "{endpoint} refuses what is signed with the time of this machine; set its clock, which may be off by 15 minutes at most"
            ),
            Self::Unreachable(why) if let Some(host) = host_of_bucket => write!(
                f,
                "{endpoint} cannot be reached by the bucket's name, {host} ({why}); give --s3-path-style if the store has no such names, see to the network, or correct --s3-endpoint-url"
            ),
            Self::Unreachable(why) => {
                write!(
                    f,
                    "{endpoint} cannot be reached ({why}); see to the network, or correct --s3-endpoint-url"
                )
            }
            Self::TooSlow => write!(
                f,
                "{endpoint} did not take the object in time; see to the network"
            ),
            Self::Overloaded(words) => write!(f, "{endpoint} cannot take objects now ({words})"),
            Self::Garbled => write!(
                f,
                "what {endpoint} has received differs from what was sent, by its checksum"
            ),
            Self::Refused(words) => {
                write!(
                    f,
                    "{endpoint} refuses ({words}); see to the --s3 flags, and to whether that is an S3 store"
                )
            }
            Self::BadObject(words) => write!(f, "{endpoint} does not take the object ({words})"),
            Self::Occupied => write!(
                f,
                "another call's object has its key in the bucket {bucket}, and is not replaced; give --overwrite if it should be, or move one of them"
            ),
            Self::Unreadable(why) => write!(f, "the file cannot be read ({why})"),
            Self::Missing => write!(
                f,
                "the file is not there any more, and no object of its length is in the bucket {bucket}"
            ),
        }
    }
}

/// Where a store says which region a bucket is in.
const REGION: &str = "x-amz-bucket-region";

/// Where something was tried.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) region: String,
    pub(super) endpoint: String,
    /// The host that is asked, where a store of its own has the bucket in its name.
    pub(super) host_of_bucket: Option<String>,
}

impl Place {
    /// A bucket at an endpoint, which may be a URL.
    pub(super) fn new(bucket: &str, region: String, endpoint: String, path_style: bool) -> Self {
        let host = endpoint
            .split_once("://")
            .and_then(|(_, rest)| rest.split('/').next())
            .filter(|_| !path_style);
        // Addresses have no names below them, and the SDK knows: an IPv6 address is in brackets.
        let is_name = |host: &&str| {
            !host.starts_with('[')
                && host
                    .split(':')
                    .next()
                    .is_some_and(|name| name.parse::<Ipv4Addr>().is_err())
        };
        let host_of_bucket = host.filter(is_name).map(|host| format!("{bucket}.{host}"));
        Self {
            bucket: bucket.to_owned(),
            region,
            endpoint,
            host_of_bucket,
        }
    }
}

/// An error and what it comes from, in a line.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let said = error.to_string();
        if words.last() != Some(&said) {
            words.push(said);
        }
        next = error.source();
    }
    printable(words.join(": ").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let of =
            |status, code| Trouble::answered(status, Some(code), Some("so"), Some("eu-west-1"));
        let words = |code: &str| format!("{code}: so");
        for (status, code, want) in [
            (404, "NoSuchBucket", Trouble::NoSuchBucket),
            (
                301,
                "PermanentRedirect",
                Trouble::WrongRegion(Some("eu-west-1".to_owned())),
            ),
            (
                400,
                "AuthorizationHeaderMalformed",
                Trouble::WrongRegion(Some("eu-west-1".to_owned())),
            ),
            (403, "RequestTimeTooSkewed", Trouble::ClockSkew),
            (
                403,
                "InvalidAccessKeyId",
                Trouble::BadCredentials(words("InvalidAccessKeyId")),
            ),
            (
                400,
                "ExpiredToken",
                Trouble::BadCredentials(words("ExpiredToken")),
            ),
            (
                403,
                "AccessDenied",
                Trouble::AccessDenied(words("AccessDenied")),
            ),
            (503, "SlowDown", Trouble::Overloaded(words("SlowDown"))),
            (400, "BadDigest", Trouble::Garbled),
            (
                400,
                "EntityTooLarge",
                Trouble::BadObject(words("EntityTooLarge")),
            ),
            (
                400,
                "InvalidStorageClass",
                Trouble::Refused(words("InvalidStorageClass")),
            ),
        ] {
            assert_eq!(of(status, code), want);
        }
        let forged = Trouble::answered(400, Some("Bad"), Some("a\nb"), None);
        assert_eq!(
            forged,
            Trouble::Refused("Bad: a\u{fffd}b".to_owned()),
            "a line of the log is a line"
        );
        let malformed = "the region 'us-east-1' is wrong; expecting 'eu-west-1'";
        let answer = Trouble::answered(
            400,
            Some("AuthorizationHeaderMalformed"),
            Some(malformed),
            None,
        );
        assert_eq!(answer, Trouble::WrongRegion(Some("eu-west-1".to_owned())));
        assert_eq!(
            Trouble::answered(502, None, None, None),
            Trouble::Overloaded("HTTP status 502".to_owned())
        );
        assert_eq!(
            Trouble::answered(403, None, None, None),
            Trouble::AccessDenied("HTTP status 403".to_owned())
        );
    }

    #[test]
    fn sentences_say_what_to_do() {
        let place = Place::new(
            "calls",
            "eu-west-1".to_owned(),
            "https://s3.example.com".to_owned(),
            true,
        );
        for (trouble, words) in [
            (
                Trouble::NoCredentials("none".to_owned()),
                "AWS_ACCESS_KEY_ID",
            ),
            (Trouble::BadCredentials("x".to_owned()), "correct them"),
            (Trouble::AccessDenied("x".to_owned()), "s3:PutObject"),
            (
                Trouble::NoSuchBucket,
                "no bucket calls at https://s3.example.com",
            ),
            (
                Trouble::WrongRegion(Some("eu-central-1".to_owned())),
                "--s3-region eu-central-1",
            ),
            (Trouble::WrongRegion(None), "--s3-region"),
            (Trouble::ClockSkew, "clock"),
            (
                Trouble::Unreachable("refused".to_owned()),
                "--s3-endpoint-url",
            ),
        ] {
            assert!(trouble.is_of_store());
            assert!(
                trouble.at(&place).to_string().contains(words),
                "{}",
                trouble.at(&place)
            );
        }
    }

    #[test]
    fn the_host_that_was_asked_is_named() {
        let says = |endpoint: &str, path_style| {
            let place = Place::new(
                "calls",
                "eu-west-1".to_owned(),
                endpoint.to_owned(),
                path_style,
            );
            Trouble::Unreachable("refused".to_owned())
                .at(&place)
                .to_string()
        };
        let words = says("http://localhost:9000", false);
        assert!(
            words.contains("calls.localhost:9000") && words.contains("--s3-path-style"),
            "{words}"
        );
        for (endpoint, path_style) in [
            ("http://localhost:9000", true),
            ("http://127.0.0.1:9000", false),
            ("http://[::1]:9000", false),
            ("S3 in eu-west-1", false),
        ] {
            assert!(
                !says(endpoint, path_style).contains("--s3-path-style"),
                "{endpoint}"
            );
        }
    }
}
