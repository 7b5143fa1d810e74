//! `encode(bytes, format)` and `decode(text, format)` with the formats of Postgres: base64, hex and escape.

use std::sync::Arc;

use arrow::array::{AsArray, BinaryArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::{answer, argument, bytea, is_text};
use crate::error::{SqlError, SqlResult, sqlstate};

/// Characters of a line of base64.
const LINE: usize = 76;

/// Both of them.
pub(super) fn all() -> [ScalarUDF; 2] {
    [("encode", true), ("decode", false)].map(|(name, encodes)| {
        let signature = Signature::user_defined(Volatility::Immutable);
        ScalarUDF::from(Coded { name, encodes, signature })
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Coded {
    name: &'static str,
    encodes: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Coded {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        use DataType::{Binary, BinaryView, LargeBinary, Utf8View};
        match types {
            // A literal is read as bytes, as it would be without the function.
            [Binary | BinaryView | LargeBinary, format] if self.encodes && is_text(format) => {
                Ok(vec![BinaryView, Utf8View])
            }
            [text, format] if is_text(text) && is_text(format) => {
                Ok(vec![if self.encodes { BinaryView } else { Utf8View }, Utf8View])
            }
            _ => Err(crate::aggregate::no_such_function(self.name, types)),
        }
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(if self.encodes { DataType::Utf8View } else { DataType::Binary })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let (values, formats) = (argument(&args, 0)?, argument(&args, 1)?);
        let formats = cast(&formats, &DataType::Utf8View)?;
        let formats = formats.as_string_view().iter();
        if !self.encodes {
            let texts = cast(&values, &DataType::Utf8View)?;
            let pairs = texts.as_string_view().iter().zip(formats);
            let decoded = pairs.map(|(text, format)| text.zip(format).map(decoded).transpose());
            let decoded = decoded.collect::<SqlResult<Vec<_>>>()?;
            let decoded: BinaryArray = decoded.iter().map(Option::as_deref).collect();
            return answer(&args, Arc::new(decoded));
        }
        let bytes = cast(&values, &DataType::BinaryView)?;
        let pairs = bytes.as_binary_view().iter().zip(formats);
        let encoded = pairs.map(|(bytes, format)| bytes.zip(format).map(encoded).transpose());
        answer(&args, Arc::new(encoded.collect::<SqlResult<StringViewArray>>()?))
    }
}

fn unknown(format: &str) -> SqlError {
    let message = format!("unrecognized encoding: \"{format}\"");
    SqlError::new(sqlstate::INVALID_PARAMETER, message)
        .with_hint("the encodings are base64, hex and escape")
}

fn encoded((bytes, format): (&[u8], &str)) -> SqlResult<String> {
    match format.to_ascii_lowercase().as_str() {
        "base64" => {
            let whole = base64::engine::general_purpose::STANDARD.encode(bytes);
            let mut lines = String::with_capacity(whole.len() + whole.len() / LINE);
            for (at, c) in whole.chars().enumerate() {
                if at > 0 && at.is_multiple_of(LINE) {
                    lines.push('\n');
                }
                lines.push(c);
            }
            Ok(lines)
        }
        "hex" => Ok(bytea::encoded(bytes).split_off(2)),
        "escape" => {
            let mut text = String::with_capacity(bytes.len());
            for byte in bytes {
                match byte {
                    b'\\' => text.push_str("\\\\"),
                    0 | 0x80.. => text.push_str(&format!("\\{byte:03o}")),
                    other => text.push(char::from(*other)),
                }
            }
            Ok(text)
        }
        _ => Err(unknown(format)),
    }
}

fn decoded((text, format): (&str, &str)) -> SqlResult<Vec<u8>> {
    match format.to_ascii_lowercase().as_str() {
        "base64" => {
            let plain: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            let config = GeneralPurposeConfig::new()
                .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
            let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
            engine.decode(plain).map_err(|e| {
                SqlError::new(sqlstate::INVALID_PARAMETER, "invalid base64 end sequence")
                    .with_detail(e.to_string())
            })
        }
        "hex" => bytea::from_hex(text),
        "escape" => bytea::from_escapes(text.as_bytes()).ok_or_else(|| {
            SqlError::new(sqlstate::INVALID_TEXT, "invalid input syntax for type bytea")
        }),
        _ => Err(unknown(format)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_in_every_format() {
        let bytes: Vec<u8> = (0..=255).collect();
        for format in ["base64", "hex", "escape", "HEX"] {
            let text = encoded((&bytes, format)).unwrap();
            assert_eq!(decoded((&text, format)).unwrap(), bytes, "{format}");
        }
        assert_eq!(encoded((b"a\0\\b\xff", "escape")).unwrap(), "a\\000\\\\b\\377");
        assert_eq!(encoded((&[0; 60], "base64")).unwrap().find('\n'), Some(76));
        assert!(encoded((b"", "base32")).is_err());
        assert!(decoded(("abc", "hex")).is_err() && decoded(("YQ", "base64")).is_err());
    }
}
