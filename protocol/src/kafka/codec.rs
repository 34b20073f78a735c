//! How one field of a Kafka message is written and read. Knows nothing of messages; every length is bounded by the bytes that remain, and
//! looked at before memory is reserved for it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub use crate::codec::{DecodeError, Entropy};

/// How a field stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The version of the API.
    pub version: i16,
    /// Whether lengths are compact and structures end with tagged fields (KIP-482).
    pub flexible: bool,
    /// Whether the field may be null.
    pub nullable: bool,
}

impl Layout {
    /// Of a field that may be null, or may not.
    #[must_use]
    pub const fn nullable(self, nullable: bool) -> Self {
        Self { nullable, ..self }
    }
}

/// Bytes from this size on are written as they are, without a copy.
const SHARED_BYTES: usize = 1 << 10;

/// A message while it is written: bytes of its own, and shared ones between them.
#[derive(Debug, Default)]
pub struct Writer {
    parts: Vec<Bytes>,
    parts_bytes: usize,
    open: BytesMut,
}

impl Writer {
    /// Room to write small things into.
    pub const fn space(&mut self) -> &mut BytesMut {
        &mut self.open
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts_bytes + self.open.len()
    }

    /// Adds bytes; large ones are shared.
    pub fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES {
            self.open.put_slice(bytes);
            return;
        }
        for part in [self.open.split().freeze(), bytes.clone()] {
            self.parts_bytes += part.len();
            self.parts.push(part);
        }
    }

    /// Everything written, in order.
    #[must_use]
    pub fn finish(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.parts.push(self.open.freeze());
        }
        self.parts
    }

    fn append(&mut self, other: Self) {
        for part in other.finish() {
            self.share(&part);
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.open.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.open.put_u8(value as u8);
    }

    /// The length of a list, or of bytes.
    fn length(&mut self, length: Option<usize>, layout: Layout) {
        match (layout.flexible, length) {
            (true, None) => self.varint(0),
            (true, Some(length)) => self.varint(length as u32 + 1),
            (false, None) => self.open.put_i32(-1),
            (false, Some(length)) => self.open.put_i32(length as i32),
        }
    }

    /// The length of a string.
    fn text_length(&mut self, length: Option<usize>, layout: Layout) {
        match (layout.flexible, length) {
            (true, length) => self.length(length, layout),
            (false, None) => self.open.put_i16(-1),
            (false, Some(length)) => self.open.put_i16(length as i16),
        }
    }
}

/// The tagged fields at the end of a structure.
#[derive(Debug, Default)]
pub struct Tagged {
    count: u32,
    fields: Writer,
}

impl Tagged {
    /// Adds a field; tags must grow.
    pub fn add<T: Field>(&mut self, tag: u32, value: &T, layout: Layout) {
        let mut body = Writer::default();
        value.write(&mut body, layout);
        self.count += 1;
        self.fields.varint(tag);
        self.fields.varint(body.bytes() as u32);
        self.fields.append(body);
    }

    /// Writes all of them.
    pub fn write(self, out: &mut Writer) {
        out.varint(self.count);
        out.append(self.fields);
    }
}

/// The rest of a message, and where in it the reader stands.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
    end: usize,
    items_left: u32,
    field: &'static str,
}

impl<'a> Reader<'a> {
    /// Most list items in one message: what a list takes in memory is more than on the wire.
    pub const ITEMS_MAX: u32 = 100_000;

    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, at: 0, end: bytes.len(), items_left: Self::ITEMS_MAX, field: "" }
    }

    /// Bytes that remain.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// What remains, shared where it is large, and copied where it is not, so that little keeps no more than itself.
    #[must_use]
    pub fn rest(&self) -> Bytes {
        let rest = self.bytes.slice(self.at..self.end);
        if rest.len() < SHARED_BYTES { Bytes::copy_from_slice(&rest) } else { rest }
    }

    /// Names the field that is read next, for errors.
    pub const fn enter(&mut self, field: &'static str) {
        self.field = field;
    }

    /// The error for a value that the current field cannot have.
    #[must_use]
    pub const fn bad_value(&self) -> DecodeError {
        DecodeError::Value { field: self.field }
    }

    fn advance(&mut self, count: usize) -> Result<usize, DecodeError> {
        let available = self.remaining();
        if count > available {
            return Err(DecodeError::Short { field: self.field, needed: count, available });
        }
        let from = self.at;
        self.at += count;
        Ok(from)
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let from = self.advance(count)?;
        Ok(&self.bytes[from..from + count])
    }

    /// The next `count` bytes, shared.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn share(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        let from = self.advance(count)?;
        Ok(self.bytes.slice(from..from + count))
    }

    fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| self.bad_value());
            }
        }
        Err(self.bad_value())
    }

    /// A length that is signed, -1 where there is nothing.
    fn signed_length(&self, length: i64) -> Result<Option<usize>, DecodeError> {
        match length {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.bad_value()),
        }
    }

    fn length(&mut self, layout: Layout) -> Result<Option<usize>, DecodeError> {
        if layout.flexible {
            return Ok(self.varint()?.checked_sub(1).map(|length| length as usize));
        }
        let length = i32::read(self, layout)?;
        self.signed_length(length.into())
    }

    fn text_length(&mut self, layout: Layout) -> Result<Option<usize>, DecodeError> {
        if layout.flexible {
            // It is as long as where its length has two bytes.
            let length = self.length(layout)?;
            return if length.is_none_or(|length| length <= i16::MAX as usize) {
                Ok(length)
            } else {
                Err(self.bad_value())
            };
        }
        let length = i16::read(self, layout)?;
        self.signed_length(length.into())
    }

    /// The tagged fields at the end of a structure: `read` reads those that it knows; the others are skipped.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn tagged(
        &mut self,
        mut read: impl FnMut(u32, &mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.enter("tagged fields");
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let length = self.varint()? as usize;
            let from = self.advance(length)?;
            let (at, end) = (self.at, self.end);
            (self.at, self.end) = (from, at);
            read(tag, self)?;
            (self.at, self.end) = (at, end);
            self.enter("tagged fields");
        }
        Ok(())
    }
}

/// A type that a field can have.
pub trait Field: Sized + PartialEq {
    /// Appends the value.
    fn write(&self, out: &mut Writer, layout: Layout);
    /// Reads a value.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn read(input: &mut Reader<'_>, layout: Layout) -> Result<Self, DecodeError>;
    /// A legal value drawn from seeded numbers, for round trips and fuzzing.
    fn sample(entropy: &mut Entropy) -> Self;
}

/// A field that has a form for nothing.
pub trait Nullable: Field + Default {
    /// Appends the value, or the form for nothing.
    fn write_nullable(value: Option<&Self>, out: &mut Writer, layout: Layout);
    /// Reads a value, or the form for nothing.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn read_nullable(input: &mut Reader<'_>, layout: Layout) -> Result<Option<Self>, DecodeError>;
}

/// Whether a structure stands behind it.
const NO_STRUCT: i8 = -1;

/// A structure that may be missing has a byte before it.
pub fn write_nullable_struct<T: Field>(value: Option<&T>, out: &mut Writer, layout: Layout) {
    match value {
        None => out.open.put_i8(NO_STRUCT),
        Some(value) => {
            out.open.put_i8(1);
            value.write(out, layout.nullable(false));
        }
    }
}

/// Likewise.
///
/// # Errors
/// [`DecodeError`].
pub fn read_nullable_struct<T: Field>(input: &mut Reader<'_>, layout: Layout) -> Result<Option<T>, DecodeError> {
    // Whatever is not negative is a structure, as with Kafka.
    if input.take(1)?.get_i8() < 0 {
        return Ok(None);
    }
    T::read(input, layout.nullable(false)).map(Some)
}

macro_rules! integers {
    ($($raw:ident $get:ident $put:ident;)*) => {$(
        impl Field for $raw {
            fn write(&self, out: &mut Writer, _: Layout) {
                out.open.$put(*self);
            }
            fn read(input: &mut Reader<'_>, _: Layout) -> Result<Self, DecodeError> {
                Ok(input.take(size_of::<$raw>())?.$get())
            }
            fn sample(entropy: &mut Entropy) -> Self {
                <$raw as crate::codec::Field>::sample(entropy)
            }
        }
    )*};
}

integers! {
    i16 get_i16 put_i16;
    i32 get_i32 put_i32;
    i64 get_i64 put_i64;
}

impl Field for i8 {
    fn write(&self, out: &mut Writer, _: Layout) {
        out.open.put_i8(*self);
    }
    fn read(input: &mut Reader<'_>, _: Layout) -> Result<Self, DecodeError> {
        Ok(input.take(1)?.get_i8())
    }
    fn sample(entropy: &mut Entropy) -> Self {
        entropy.next() as Self
    }
}

impl Field for bool {
    fn write(&self, out: &mut Writer, _: Layout) {
        out.open.put_u8(u8::from(*self));
    }
    fn read(input: &mut Reader<'_>, _: Layout) -> Result<Self, DecodeError> {
        // Whatever is not zero is true, as with Kafka.
        Ok(input.take(1)?[0] != 0)
    }
    fn sample(entropy: &mut Entropy) -> Self {
        entropy.below(2) == 1
    }
}

/// A topic's identity; all zero where there is none.
pub type Uuid = [u8; 16];

impl Field for Uuid {
    fn write(&self, out: &mut Writer, _: Layout) {
        out.open.put_slice(self);
    }
    fn read(input: &mut Reader<'_>, _: Layout) -> Result<Self, DecodeError> {
        let mut id = [0; 16];
        id.copy_from_slice(input.take(16)?);
        Ok(id)
    }
    fn sample(entropy: &mut Entropy) -> Self {
        <Self as crate::codec::Field>::sample(entropy)
    }
}

/// A type that has a form for nothing refuses it where it is asked for without `Option`.
macro_rules! never_null {
    () => {
        fn write(&self, out: &mut Writer, layout: Layout) {
            Self::write_nullable(Some(self), out, layout);
        }
        fn read(input: &mut Reader<'_>, layout: Layout) -> Result<Self, DecodeError> {
            Self::read_nullable(input, layout)?.ok_or_else(|| input.bad_value())
        }
    };
}

impl Nullable for String {
    fn write_nullable(value: Option<&Self>, out: &mut Writer, layout: Layout) {
        out.text_length(value.map(Self::len), layout);
        out.open.put_slice(value.map_or(&[], |text| text.as_bytes()));
    }
    fn read_nullable(input: &mut Reader<'_>, layout: Layout) -> Result<Option<Self>, DecodeError> {
        let Some(length) = input.text_length(layout)? else { return Ok(None) };
        let text = core::str::from_utf8(input.take(length)?);
        text.map(|text| Some(text.into())).map_err(|_| DecodeError::Text { field: input.field })
    }
}

impl Field for String {
    never_null!();
    fn sample(entropy: &mut Entropy) -> Self {
        <Self as crate::codec::Field>::sample(entropy)
    }
}

impl Nullable for Bytes {
    fn write_nullable(value: Option<&Self>, out: &mut Writer, layout: Layout) {
        out.length(value.map(Self::len), layout);
        if let Some(bytes) = value {
            out.share(bytes);
        }
    }
    fn read_nullable(input: &mut Reader<'_>, layout: Layout) -> Result<Option<Self>, DecodeError> {
        let Some(length) = input.length(layout)? else { return Ok(None) };
        input.share(length).map(Some)
    }
}

impl Field for Bytes {
    never_null!();
    fn sample(entropy: &mut Entropy) -> Self {
        // Now and then so much that it is shared.
        let most = if entropy.below(4) == 0 { 3 * SHARED_BYTES as u64 } else { 20 };
        (0..entropy.below(most)).map(|_| entropy.next() as u8).collect()
    }
}

impl<T: Field> Nullable for Vec<T> {
    fn write_nullable(value: Option<&Self>, out: &mut Writer, layout: Layout) {
        out.length(value.map(Self::len), layout);
        for item in value.into_iter().flatten() {
            item.write(out, layout.nullable(false));
        }
    }
    fn read_nullable(input: &mut Reader<'_>, layout: Layout) -> Result<Option<Self>, DecodeError> {
        let Some(count) = input.length(layout)? else { return Ok(None) };
        // An item takes a byte at least, so a count above what remains is a lie, told before memory is reserved.
        if count > input.remaining() {
            return Err(DecodeError::Short { field: input.field, needed: count, available: input.remaining() });
        }
        let left = u32::try_from(count).ok().and_then(|count| input.items_left.checked_sub(count));
        input.items_left = left.ok_or_else(|| input.bad_value())?;
        let mut items = Self::with_capacity(count.min(64));
        for _ in 0..count {
            items.push(T::read(input, layout.nullable(false))?);
        }
        Ok(Some(items))
    }
}

impl<T: Field> Field for Vec<T> {
    never_null!();
    fn sample(entropy: &mut Entropy) -> Self {
        (0..entropy.below(4)).map(|_| T::sample(entropy)).collect()
    }
}

impl<T: Nullable> Field for Option<T> {
    fn write(&self, out: &mut Writer, layout: Layout) {
        match self {
            // What cannot be said in this version is said as nearly as it can be.
            None if !layout.nullable => T::write_nullable(Some(&T::default()), out, layout),
            value => T::write_nullable(value.as_ref(), out, layout),
        }
    }
    fn read(input: &mut Reader<'_>, layout: Layout) -> Result<Self, DecodeError> {
        match T::read_nullable(input, layout)? {
            None if !layout.nullable => Err(input.bad_value()),
            value => Ok(value),
        }
    }
    fn sample(entropy: &mut Entropy) -> Self {
        (entropy.below(3) != 0).then(|| T::sample(entropy))
    }
}
