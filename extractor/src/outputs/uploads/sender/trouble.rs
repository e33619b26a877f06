//! The reasons why an upload failed, each with a message that says what to do.

use std::{error::Error, fmt, net::Ipv4Addr};

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use crate::outputs::text::printable;

/// The reason why an upload failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There are no credentials.
    NoCredentials(String),
    /// The store does not know the credentials, or they have expired.
    BadCredentials(String),
    /// The credentials do not allow the request.
    AccessDenied(String),
    NoSuchBucket,
    /// The bucket is in another region, which the store may name.
    WrongRegion(Option<String>),
    ClockSkew,
    Unreachable(String),
    /// The request takes too long.
    TooSlow,
    /// The store is overloaded.
    Overloaded(String),
    /// The store has received other bytes than were sent.
    Garbled,
    /// The store refuses the request.
    Refused(String),
    /// The store refuses this object.
    BadObject(String),
    /// The key belongs to another call's object.
    Occupied,
    /// The file cannot be read.
    Unreadable(String),
    /// Neither the file nor the object exists.
    Missing,
}

impl Trouble {
    /// Returns true if any other file would fail, too.
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

    /// Classifies the error of a request.
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::TimeoutError(_) => Self::TooSlow,
            // This includes the connect timeout.
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

    /// Classifies an answer by its code in the S3 API reference, "Error responses". Some other
    /// stores use `NotSignedUp` for an unknown key.
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

    /// The message, for a bucket in a region at an endpoint.
    pub(super) fn at<'a>(&'a self, location: &'a BucketLocation) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| self.say(location, f))
    }

    /// The message for an object that is read.
    pub(super) fn at_reading<'a>(&'a self, location: &'a BucketLocation) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            let BucketLocation {
                bucket, endpoint, ..
            } = location;
            match self {
                Self::AccessDenied(words) => write!(
                    f,
                    "the credentials do not allow to read the bucket {bucket} ({words}); they need s3:ListBucket, and s3:GetObject below the prefix of --input-dir"
                ),
                Self::NoSuchBucket => write!(
                    f,
                    "there is no bucket {bucket} at {endpoint}; correct --input-dir"
                ),
                Self::TooSlow => write!(
                    f,
                    "{endpoint} did not give the object in time; check the network"
                ),
                Self::Overloaded(words) => {
                    write!(f, "{endpoint} cannot give objects now ({words})")
                }
                Self::Garbled => write!(f, "{endpoint} gives another length than was asked for"),
                _ => self.say(location, f),
            }
        })
    }

    fn say(
        &self,
        BucketLocation {
            bucket,
            region,
            endpoint,
            host_of_bucket,
        }: &BucketLocation,
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
                "the credentials do not allow to write to the bucket {bucket} ({words}); they need s3:PutObject below the prefix of --s3-uri, and the rights that its encryption and tags need"
            ),
            Self::NoSuchBucket => {
                write!(
                    f,
                    "there is no bucket {bucket} at {endpoint}; create it, or correct --s3-uri"
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
                "{endpoint} refuses requests that are signed with the time of this machine; set its clock, which may be wrong by at most 15 minutes"
            ),
            Self::Unreachable(why) if let Some(host) = host_of_bucket => write!(
                f,
                "{endpoint} cannot be reached by the bucket's name, {host} ({why}); give --s3-path-style if the store has no such names, check the network, or correct --s3-endpoint-url"
            ),
            Self::Unreachable(why) => {
                write!(
                    f,
                    "{endpoint} cannot be reached ({why}); check the network, or correct --s3-endpoint-url"
                )
            }
            Self::TooSlow => write!(
                f,
                "{endpoint} did not take the object in time; check the network"
            ),
            Self::Overloaded(words) => write!(f, "{endpoint} cannot take objects now ({words})"),
            Self::Garbled => write!(
                f,
                "{endpoint} received other bytes than were sent, by their checksum"
            ),
            Self::Refused(words) => {
                write!(
                    f,
                    "{endpoint} refuses the request ({words}); check the --s3 flags, and whether the endpoint is an S3 store"
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
                "the file is gone, and the bucket {bucket} has no object of its length"
            ),
        }
    }
}

/// The response header with the region of a bucket.
const REGION: &str = "x-amz-bucket-region";

/// The location of a bucket, for messages.
#[derive(Clone, Debug)]
pub(super) struct BucketLocation {
    pub(super) bucket: String,
    pub(super) region: String,
    pub(super) endpoint: String,
    /// The host name with the bucket in it, for a custom endpoint that is addressed that way.
    pub(super) host_of_bucket: Option<String>,
}

impl BucketLocation {
    /// A bucket at an endpoint, which may be a URL.
    pub(super) fn new(bucket: &str, region: String, endpoint: String, path_style: bool) -> Self {
        let host = endpoint
            .split_once("://")
            .and_then(|(_, rest)| rest.split('/').next())
            .filter(|_| !path_style);
        // IP addresses have no names below them; the SDK uses the path for them. IPv6 is in
        // brackets.
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

/// An error and its causes on one line.
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
        let location = BucketLocation::new(
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
                trouble.at(&location).to_string().contains(words),
                "{}",
                trouble.at(&location)
            );
        }
    }

    #[test]
    fn the_host_that_was_asked_is_named() {
        let says = |endpoint: &str, path_style| {
            let location = BucketLocation::new(
                "calls",
                "eu-west-1".to_owned(),
                endpoint.to_owned(),
                path_style,
            );
            Trouble::Unreachable("refused".to_owned())
                .at(&location)
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
