//! The message macro: one declaration gives the struct, its encoder, its decoder, its row in the specification and its samples.
//! Knows nothing of frames or of who sends what.
//!
//! Fields stand in wire order. Each names the protocol version that introduced it; fields are only ever added, at the end, with
//! a higher version. A receiver skips what it does not know and fills in what an older sender did not have.

use crate::codec::{DecodeError, Entropy, Reader};
use crate::version::ProtocolVersion;
use bytes::BytesMut;

/// One field as the specification shows it.
#[derive(Clone, Debug)]
pub struct FieldSpec {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub type_name: String,
    /// The protocol version that introduced it.
    pub since: u16,
    /// What it means.
    pub doc: String,
}

/// A declared message.
pub trait Message: Sized + core::fmt::Debug + Clone + PartialEq + Send + Sync + 'static {
    /// Its name.
    const NAME: &'static str;

    /// Its fields, in wire order.
    fn fields() -> Vec<FieldSpec>;

    /// What it is for.
    fn doc() -> String;

    /// Appends the body, as `version` writes it.
    fn encode(&self, out: &mut BytesMut, version: ProtocolVersion);

    /// Reads a body; bytes after the last known field are skipped.
    ///
    /// # Errors
    /// [`DecodeError`] names the field at fault.
    fn decode(input: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError>;

    /// A legal message drawn from seeded numbers.
    fn draw(entropy: &mut Entropy) -> Self;

    /// The body as bytes of its own.
    fn to_body(&self, version: ProtocolVersion) -> BytesMut {
        let mut out = BytesMut::with_capacity(128);
        self.encode(&mut out, version);
        out
    }

    /// Reads a whole body.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn from_body(body: &[u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        Self::decode(&mut Reader::new(body), version)
    }
}

/// The lines of a doc comment as one sentence.
#[must_use]
pub fn sentence(lines: &[&str]) -> String {
    let words: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    words.join(" ")
}

/// Declares a message; see the module. Each field is `SINCE name: Type,`.
#[macro_export]
macro_rules! message {
    ($(#[doc = $doc:literal])* pub struct $name:ident {
        $($(#[doc = $fdoc:literal])* $since:literal $field:ident: $ty:ty,)*
    }) => {
        $(#[doc = $doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $name { $($(#[doc = $fdoc])* pub $field: $ty,)* }

        impl $crate::message::Message for $name {
            const NAME: &'static str = stringify!($name);

            fn fields() -> $crate::owned::Vec<$crate::message::FieldSpec> {
                $crate::owned::vec![$($crate::message::FieldSpec {
                    name: stringify!($field),
                    type_name: <$ty as $crate::codec::Field>::type_name(),
                    since: $since,
                    doc: $crate::message::sentence(&[$($fdoc,)*]),
                },)*]
            }

            fn doc() -> $crate::owned::String {
                $crate::message::sentence(&[$($doc,)*])
            }

            fn encode(&self, out: &mut $crate::codec::BytesMut, version: $crate::version::ProtocolVersion) {
                let _ = (&out, version);
                $(if version.0 >= $since {
                    $crate::codec::Field::write(&self.$field, out, version);
                })*
            }

            fn decode(
                input: &mut $crate::codec::Reader<'_>,
                version: $crate::version::ProtocolVersion,
            ) -> Result<Self, $crate::codec::DecodeError> {
                let _ = (&input, version);
                Ok(Self { $($field: input.field::<$ty>(stringify!($field), $since, version)?,)* })
            }

            fn draw(entropy: &mut $crate::codec::Entropy) -> Self {
                let _ = &entropy;
                Self { $($field: <$ty as $crate::codec::Field>::sample(entropy),)* }
            }
        }

        // Inside another message the struct carries its own length, so that it can grow too.
        impl $crate::codec::Field for $name {
            fn type_name() -> $crate::owned::String {
                stringify!($name).into()
            }
            fn write(&self, out: &mut $crate::codec::BytesMut, version: $crate::version::ProtocolVersion) {
                let start = out.len();
                out.extend_from_slice(&[0; 4]);
                $crate::message::Message::encode(self, out, version);
                let length = (out.len() - start - 4) as u32;
                out[start..start + 4].copy_from_slice(&length.to_le_bytes());
            }
            fn read(
                input: &mut $crate::codec::Reader<'_>,
                version: $crate::version::ProtocolVersion,
            ) -> Result<Self, $crate::codec::DecodeError> {
                let length = <u32 as $crate::codec::Field>::read(input, version)? as usize;
                <Self as $crate::message::Message>::decode(&mut input.nested(length)?, version)
            }
            fn sample(entropy: &mut $crate::codec::Entropy) -> Self {
                <Self as $crate::message::Message>::draw(entropy)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: ProtocolVersion = ProtocolVersion(1);
    const V2: ProtocolVersion = ProtocolVersion(2);

    mod old {
        crate::message! {
            /// As version 1 knew it.
            pub struct Inner { 1 a: u16, }
        }
        crate::message! {
            /// As version 1 knew it.
            pub struct Outer { 1 inner: Vec<Inner>, 1 z: u8, }
        }
    }
    mod new {
        crate::message! {
            /// With a field more.
            pub struct Inner { 1 a: u16, 2 b: Option<String>, }
        }
        crate::message! {
            /// With a field more.
            pub struct Outer { 1 inner: Vec<Inner>, 1 z: u8, 2 more: u32, }
        }
    }

    #[test]
    fn a_newer_sender_is_understood_by_an_older_receiver() {
        let sent = new::Outer { inner: vec![new::Inner { a: 7, b: Some("x".into()) }], z: 9, more: 1 };
        // Even a sender that ignores the agreed version is understood: unknown trailing fields are skipped.
        for version in [V1, V2] {
            let got = old::Outer::from_body(&sent.to_body(version), V1);
            assert_eq!(got, Ok(old::Outer { inner: vec![old::Inner { a: 7 }], z: 9 }));
        }
    }

    #[test]
    fn an_older_sender_is_understood_by_a_newer_receiver() {
        let sent = old::Outer { inner: vec![old::Inner { a: 7 }], z: 9 };
        for version in [V1, V2] {
            let got = new::Outer::from_body(&sent.to_body(V1), version);
            assert_eq!(got, Ok(new::Outer { inner: vec![new::Inner { a: 7, b: None }], z: 9, more: 0 }));
        }
    }

    #[test]
    fn a_body_cut_short_is_an_error() {
        let body = old::Outer { inner: vec![old::Inner { a: 7 }], z: 9 }.to_body(V1);
        for cut in 0..body.len() {
            assert!(old::Outer::from_body(&body[..cut], V1).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_count_that_lies_reserves_no_memory() {
        assert!(matches!(old::Outer::from_body(&[0xff; 8], V1), Err(DecodeError::Short { .. })));
    }
}
