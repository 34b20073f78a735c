//! How one field is written and read. Knows nothing of messages; every length is bounded by the bytes that remain.

use bytes::{Buf, BufMut};

pub use bytes::{Bytes, BytesMut};

use crate::ids::*;
use crate::version::ProtocolVersion;

/// Why a body does not parse.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The body ends inside a field.
    #[error("field '{field}' needs {needed} more bytes, {available} remain")]
    Short {
        /// The field.
        field: &'static str,
        /// What it needs.
        needed: usize,
        /// What there is.
        available: usize,
    },
    /// A value that the field's type does not allow.
    #[error("field '{field}' holds a value that does not exist or is out of range")]
    Value {
        /// The field.
        field: &'static str,
    },
    /// Text that is not UTF-8.
    #[error("field '{field}' is not UTF-8")]
    Text {
        /// The field.
        field: &'static str,
    },
    /// Structures nested deeper than any message is.
    #[error("field '{field}' is nested too deeply")]
    Depth {
        /// The field.
        field: &'static str,
    },
}

/// The rest of a body, and where in it the reader stands.
pub struct Reader<'a> {
    rest: &'a [u8],
    field: &'static str,
    depth: u8,
}

impl<'a> Reader<'a> {
    const MAX_DEPTH: u8 = 8;

    /// Starts at the first byte of `body`.
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self { rest: body, field: "", depth: 0 }
    }

    /// Bytes that remain.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Reads the field `name` that came with version `since`. A field that the sender's version did not have, and one that
    /// came after the first version and is missing at the end of the body, takes its default.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn field<T: Field>(
        &mut self,
        name: &'static str,
        since: u16,
        version: ProtocolVersion,
    ) -> Result<T, DecodeError> {
        self.field = name;
        let absent = since > version.0 || (since > 1 && self.rest.is_empty());
        if absent { T::absent().ok_or(DecodeError::Value { field: name }) } else { T::read(self, version) }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(count) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(DecodeError::Short { field: self.field, needed: count, available: self.rest.len() }),
        }
    }

    /// A reader over the next `count` bytes, one level deeper; what it leaves unread is skipped.
    ///
    /// # Errors
    /// [`DecodeError::Short`], [`DecodeError::Depth`].
    pub fn nested(&mut self, count: usize) -> Result<Reader<'a>, DecodeError> {
        if self.depth >= Self::MAX_DEPTH {
            return Err(DecodeError::Depth { field: self.field });
        }
        Ok(Reader { rest: self.take(count)?, field: self.field, depth: self.depth + 1 })
    }

    /// The error for a value out of range in the current field.
    #[must_use]
    pub const fn bad_value(&self) -> DecodeError {
        DecodeError::Value { field: self.field }
    }
}

/// Seeded numbers (splitmix64) from which [`Field::sample`] draws. Same seed, same values, on every machine.
pub struct Entropy(u64);

impl Entropy {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A type that a message field can have.
pub trait Field: Sized {
    /// Its name in the specification.
    fn type_name() -> String;
    /// Appends the value, as `version` writes it.
    fn write(&self, out: &mut BytesMut, version: ProtocolVersion);
    /// Reads a value.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn read(input: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError>;
    /// The value where the sender's version did not have the field.
    fn absent() -> Option<Self> {
        None
    }
    /// A legal value drawn from seeded numbers, for golden bytes, round trips and fuzzing.
    fn sample(entropy: &mut Entropy) -> Self;
}

macro_rules! integers {
    ($($raw:ident $get:ident $put:ident;)*) => {$(
        impl Field for $raw {
            fn type_name() -> String {
                stringify!($raw).into()
            }
            fn write(&self, out: &mut BytesMut, _: ProtocolVersion) {
                out.$put(*self);
            }
            fn read(input: &mut Reader<'_>, _: ProtocolVersion) -> Result<Self, DecodeError> {
                Ok(input.take(size_of::<$raw>())?.$get())
            }
            fn absent() -> Option<Self> {
                Some(0)
            }
            fn sample(entropy: &mut Entropy) -> Self {
                // Boundary values find more mistakes than random ones.
                match entropy.below(4) {
                    0 => $raw::MIN,
                    1 => $raw::MAX,
                    _ => entropy.next() as $raw,
                }
            }
        }
    )*};
}

integers! {
    u8 get_u8 put_u8;
    u16 get_u16_le put_u16_le;
    u32 get_u32_le put_u32_le;
    u64 get_u64_le put_u64_le;
    i16 get_i16_le put_i16_le;
    i32 get_i32_le put_i32_le;
    i64 get_i64_le put_i64_le;
}

macro_rules! newtypes {
    ($($name:ident($raw:ident);)*) => {$(
        impl Field for $name {
            fn type_name() -> String {
                concat!(stringify!($name), " (", stringify!($raw), ")").into()
            }
            fn write(&self, out: &mut BytesMut, version: ProtocolVersion) {
                self.0.write(out, version);
            }
            fn read(input: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
                Ok(Self($raw::read(input, version)?))
            }
            fn absent() -> Option<Self> {
                $raw::absent().map(Self)
            }
            fn sample(entropy: &mut Entropy) -> Self {
                Self($raw::sample(entropy))
            }
        }
    )*};
}

type Id = [u8; 16];

newtypes! {
    LeaderEpoch(u32);
    PartitionEpoch(u32);
    PartitionId(u32);
    BrokerId(u32);
    BrokerEpoch(u64);
    FolderStamp(u64);
    ControllerEpoch(u64);
    MetadataIndex(u64);
    ProducerId(i64);
    ProducerEpoch(i16);
    Sequence(i32);
    Timestamp(i64);
    CorrelationId(u64);
    TopicId(Id);
    ClusterId(Id);
    IncarnationId(Id);
}

impl Field for Offset {
    fn type_name() -> String {
        "Offset (u64, below 2^63)".into()
    }
    fn write(&self, out: &mut BytesMut, _: ProtocolVersion) {
        out.put_u64_le(self.0);
    }
    fn read(input: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let raw = u64::read(input, version)?;
        if raw > Self::MAX.0 { Err(input.bad_value()) } else { Ok(Self(raw)) }
    }
    fn absent() -> Option<Self> {
        Some(Self::ZERO)
    }
    fn sample(entropy: &mut Entropy) -> Self {
        Self(entropy.next() >> 1)
    }
}

impl Field for Id {
    fn type_name() -> String {
        "16 bytes".into()
    }
    fn write(&self, out: &mut BytesMut, _: ProtocolVersion) {
        out.put_slice(self);
    }
    fn read(input: &mut Reader<'_>, _: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut id = [0; 16];
        id.copy_from_slice(input.take(16)?);
        Ok(id)
    }
    fn absent() -> Option<Self> {
        Some([0; 16])
    }
    fn sample(entropy: &mut Entropy) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&entropy.next().to_le_bytes());
        id[8..].copy_from_slice(&entropy.next().to_le_bytes());
        id
    }
}

impl Field for bool {
    fn type_name() -> String {
        "bool (u8, 0 or 1)".into()
    }
    fn write(&self, out: &mut BytesMut, _: ProtocolVersion) {
        out.put_u8(u8::from(*self));
    }
    fn read(input: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        match u8::read(input, version)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(input.bad_value()),
        }
    }
    fn absent() -> Option<Self> {
        Some(false)
    }
    fn sample(entropy: &mut Entropy) -> Self {
        entropy.below(2) == 1
    }
}

fn read_text<'a>(input: &mut Reader<'a>, version: ProtocolVersion) -> Result<&'a str, DecodeError> {
    let bytes = u32::read(input, version)? as usize;
    let text = input.take(bytes)?;
    core::str::from_utf8(text).map_err(|_| DecodeError::Text { field: input.field })
}

fn write_text(text: &str, out: &mut BytesMut) {
    out.put_u32_le(text.len() as u32);
    out.put_slice(text.as_bytes());
}

impl Field for String {
    fn type_name() -> String {
        "string (u32 length, UTF-8)".into()
    }
    fn write(&self, out: &mut BytesMut, _: ProtocolVersion) {
        write_text(self, out);
    }
    fn read(input: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        Ok(read_text(input, version)?.into())
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
    fn sample(entropy: &mut Entropy) -> Self {
        let alphabet = ['a', 'Z', '7', '_', ' ', 'ß', '海', '\u{1f30a}'];
        (0..entropy.below(12)).map(|_| alphabet[entropy.below(8) as usize]).collect()
    }
}

impl Field for TopicName {
    fn type_name() -> String {
        "TopicName (string of 1 to 249 bytes)".into()
    }
    fn write(&self, out: &mut BytesMut, _: ProtocolVersion) {
        write_text(self.as_str(), out);
    }
    fn read(input: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        Self::new(read_text(input, version)?).map_err(|_| input.bad_value())
    }
    fn sample(entropy: &mut Entropy) -> Self {
        let alphabet = b"abcXYZ019._-";
        let rest: String = (0..entropy.below(20)).map(|_| alphabet[entropy.below(12) as usize] as char).collect();
        Self::new(&format!("t{rest}")).unwrap_or_else(|_| unreachable!("the alphabet is legal"))
    }
}

impl Field for Bytes {
    fn type_name() -> String {
        "bytes (u32 length)".into()
    }
    fn write(&self, out: &mut BytesMut, _: ProtocolVersion) {
        out.put_u32_le(self.len() as u32);
        out.put_slice(self);
    }
    fn read(input: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let bytes = u32::read(input, version)? as usize;
        Ok(Self::copy_from_slice(input.take(bytes)?))
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
    fn sample(entropy: &mut Entropy) -> Self {
        (0..entropy.below(20)).map(|_| entropy.next() as u8).collect()
    }
}

impl<T: Field> Field for Option<T> {
    fn type_name() -> String {
        format!("optional {}", T::type_name())
    }
    fn write(&self, out: &mut BytesMut, version: ProtocolVersion) {
        self.is_some().write(out, version);
        if let Some(value) = self {
            value.write(out, version);
        }
    }
    fn read(input: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        if bool::read(input, version)? { T::read(input, version).map(Some) } else { Ok(None) }
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn sample(entropy: &mut Entropy) -> Self {
        (entropy.below(3) != 0).then(|| T::sample(entropy))
    }
}

impl<T: Field> Field for Vec<T> {
    fn type_name() -> String {
        format!("list of {}", T::type_name())
    }
    fn write(&self, out: &mut BytesMut, version: ProtocolVersion) {
        out.put_u32_le(self.len() as u32);
        for item in self {
            item.write(out, version);
        }
    }
    fn read(input: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let count = u32::read(input, version)? as usize;
        // An item takes a byte at least, so a count above what remains is a lie, told before memory is reserved.
        if count > input.remaining() {
            return Err(DecodeError::Short { field: input.field, needed: count, available: input.remaining() });
        }
        // Items may be far larger in memory than on the wire: grow with what was really read.
        let mut items = Self::with_capacity(count.min(64));
        for _ in 0..count {
            items.push(T::read(input, version)?);
        }
        Ok(items)
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
    fn sample(entropy: &mut Entropy) -> Self {
        (0..entropy.below(4)).map(|_| T::sample(entropy)).collect()
    }
}

/// Declares an enum whose values are written as one byte. Values are never reused.
#[macro_export]
macro_rules! wire_enum {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[doc = $vdoc:literal])* $value:literal $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum $name { $($(#[doc = $vdoc])* $variant = $value,)* }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// What the value means.
            #[must_use]
            pub fn meaning(self) -> $crate::owned::String {
                match self { $(Self::$variant => $crate::message::sentence(&[$($vdoc,)*]),)* }
            }
        }

        impl $crate::codec::Field for $name {
            fn type_name() -> $crate::owned::String {
                let values = [$(concat!(stringify!($value), " ", stringify!($variant)),)*];
                $crate::owned::format!("{} (u8: {})", stringify!($name), <[&str]>::join(&values, ", "))
            }
            fn write(&self, out: &mut $crate::codec::BytesMut, version: $crate::version::ProtocolVersion) {
                (*self as u8).write(out, version);
            }
            fn read(
                input: &mut $crate::codec::Reader<'_>,
                version: $crate::version::ProtocolVersion,
            ) -> Result<Self, $crate::codec::DecodeError> {
                match <u8 as $crate::codec::Field>::read(input, version)? {
                    $($value => Ok(Self::$variant),)*
                    _ => Err(input.bad_value()),
                }
            }
            fn sample(entropy: &mut $crate::codec::Entropy) -> Self {
                Self::ALL[entropy.below(Self::ALL.len() as u64) as usize]
            }
        }
    };
}
