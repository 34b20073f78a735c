//! The macro that declares a Kafka message: one declaration gives the struct, its defaults, its encoder, its decoder and its samples. Knows
//! nothing of who sends what.
//!
//! Fields stand in wire order: `VERSIONS name: Type, null VERSIONS, tag N = DEFAULT;`, where the versions are a range in parentheses. The last
//! three may be left out: then the field is never null, stands in its place in every form, and is what its type is by default in a version that
//! does not have it.

use bytes::Bytes;

use super::codec::{DecodeError, Entropy, Field, Layout, Reader, Writer};

/// A declared message.
pub trait Message: Field + Default + Clone + core::fmt::Debug + Send + Sync + 'static {
    /// Its name.
    const NAME: &'static str;

    /// Appends it, as that version has it.
    fn encode(&self, out: &mut Writer, version: i16, flexible: bool) {
        self.write(out, Layout { version, flexible, nullable: false });
    }

    /// Reads it; what follows it is left.
    ///
    /// # Errors
    /// [`DecodeError`] names the field at fault.
    fn decode(input: &mut Reader<'_>, version: i16, flexible: bool) -> Result<Self, DecodeError> {
        Self::read(input, Layout { version, flexible, nullable: false })
    }

    /// It alone, as bytes in one piece.
    #[must_use]
    fn to_bytes(&self, version: i16, flexible: bool) -> Bytes {
        let mut out = Writer::default();
        self.encode(&mut out, version, flexible);
        out.finish().concat().into()
    }

    /// A legal message drawn from seeded numbers.
    fn draw(entropy: &mut Entropy) -> Self {
        Self::sample(entropy)
    }
}

/// True where a range of versions holds this one; false where there is no range.
#[doc(hidden)]
#[macro_export]
macro_rules! kafka_versions {
    ($layout:ident) => {
        false
    };
    ($layout:ident $range:tt) => {
        core::ops::RangeBounds::<i16>::contains(&$range, &$layout.version)
    };
}

/// The default of a field.
#[doc(hidden)]
#[macro_export]
macro_rules! kafka_default {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

/// The tag of a field, if it has one.
#[doc(hidden)]
#[macro_export]
macro_rules! kafka_tag {
    () => {
        None::<u32>
    };
    ($tag:literal) => {
        Some::<u32>($tag)
    };
}

/// Declares a message; see the module.
#[macro_export]
macro_rules! kafka_message {
    ($(#[doc = $doc:literal])* pub struct $name:ident {
        $($(#[doc = $fdoc:literal])*
        ($($since:tt)+) $field:ident: $ty:ty $(, null $null:tt)? $(, tag $tag:literal)? $(= $default:expr)?;)*
    }) => {
        $(#[doc = $doc])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $name { $($(#[doc = $fdoc])* pub $field: $ty,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $crate::kafka_default!($($default)?),)* }
            }
        }

        impl $crate::kafka::message::Message for $name {
            const NAME: &'static str = stringify!($name);
        }

        impl $crate::kafka::codec::Nullable for $name {
            fn write_nullable(
                value: Option<&Self>,
                out: &mut $crate::kafka::codec::Writer,
                layout: $crate::kafka::codec::Layout,
            ) {
                $crate::kafka::codec::write_nullable_struct(value, out, layout);
            }

            fn read_nullable(
                input: &mut $crate::kafka::codec::Reader<'_>,
                layout: $crate::kafka::codec::Layout,
            ) -> Result<Option<Self>, $crate::kafka::codec::DecodeError> {
                $crate::kafka::codec::read_nullable_struct(input, layout)
            }
        }

        impl $crate::kafka::codec::Field for $name {
            fn write(&self, out: &mut $crate::kafka::codec::Writer, layout: $crate::kafka::codec::Layout) {
                let _ = (&out, layout);
                $(if $crate::kafka_tag!($($tag)?).is_none() && $crate::kafka_versions!(layout ($($since)+)) {
                    let layout = layout.nullable($crate::kafka_versions!(layout $($null)?));
                    $crate::kafka::codec::Field::write(&self.$field, out, layout);
                })*
                if layout.flexible {
                    #[allow(unused_mut, reason = "most messages have no tagged field")]
                    let mut tagged = $crate::kafka::codec::Tagged::default();
                    let _default = Self::default();
                    $(if let Some(tag) = $crate::kafka_tag!($($tag)?)
                        && $crate::kafka_versions!(layout ($($since)+))
                        && self.$field != _default.$field
                    {
                        let layout = layout.nullable($crate::kafka_versions!(layout $($null)?));
                        tagged.add(tag, &self.$field, layout);
                    })*
                    tagged.write(out);
                }
            }

            fn read(
                input: &mut $crate::kafka::codec::Reader<'_>,
                layout: $crate::kafka::codec::Layout,
            ) -> Result<Self, $crate::kafka::codec::DecodeError> {
                let _ = (&input, layout);
                #[allow(unused_mut, reason = "some messages have no field")]
                let mut read = Self::default();
                $(if $crate::kafka_tag!($($tag)?).is_none() && $crate::kafka_versions!(layout ($($since)+)) {
                    let layout = layout.nullable($crate::kafka_versions!(layout $($null)?));
                    input.enter(stringify!($field));
                    read.$field = $crate::kafka::codec::Field::read(input, layout)?;
                })*
                if layout.flexible {
                    input.tagged(|_tag, _input| {
                        $(if Some(_tag) == $crate::kafka_tag!($($tag)?) && $crate::kafka_versions!(layout ($($since)+)) {
                            let layout = layout.nullable($crate::kafka_versions!(layout $($null)?));
                            _input.enter(stringify!($field));
                            read.$field = $crate::kafka::codec::Field::read(_input, layout)?;
                        })*
                        Ok(())
                    })?;
                }
                Ok(read)
            }

            fn sample(entropy: &mut $crate::kafka::codec::Entropy) -> Self {
                let _ = &entropy;
                Self { $($field: $crate::kafka::codec::Field::sample(entropy),)* }
            }
        }
    };
}
