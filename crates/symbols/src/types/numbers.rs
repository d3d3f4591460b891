//! Constants in attributes.

use gimli::AttributeValue;

use crate::units::Value;

/// A constant with its sign as its form tells it: `DW_FORM_dataN` is taken as unsigned, since
/// compilers write what is negative as `DW_FORM_sdata`.
pub fn constant(value: Value<'_>) -> Option<i128> {
    Some(match value {
        AttributeValue::Data1(value) => i128::from(value),
        AttributeValue::Data2(value) => i128::from(value),
        AttributeValue::Data4(value) => i128::from(value),
        AttributeValue::Data8(value) => i128::from(value),
        AttributeValue::Data16(value) => value.cast_signed(),
        AttributeValue::Udata(value) => i128::from(value),
        AttributeValue::Sdata(value) => i128::from(value),
        AttributeValue::FileIndex(value) => i128::from(value),
        AttributeValue::Block(bytes) if bytes.len() <= 16 => {
            let mut number = [0; 16];
            number[..bytes.len()].copy_from_slice(bytes.slice());
            i128::from_le_bytes(number)
        }
        _ => return None,
    })
}

pub fn unsigned(value: Value<'_>) -> Option<u64> {
    u64::try_from(constant(value)?).ok()
}
