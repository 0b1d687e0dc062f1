//! Tuples of up to 32.

use core::fmt;
use core::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserializer, Serializer};

use super::{Ref, Value};
use crate::describe::Describer;
use crate::types::Type;

struct TupleVisitor<T>(PhantomData<T>);

macro_rules! tuple {
    ($($name:ident $index:tt),+; $length:literal) => {
        #[diagnostic::do_not_recommend]
        impl<$($name: Value),+> Value for ($($name,)+) {
            fn describe(types: &mut Describer) -> Type {
                Type::Tuple(alloc::vec![$($name::describe(types)),+])
            }

            fn serialize_value<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
                let mut elements = serializer.serialize_tuple($length)?;
                $(elements.serialize_element(&Ref(&self.$index))?;)+
                elements.end()
            }

            fn deserialize_value<'de, Z: Deserializer<'de>>(
                deserializer: Z,
            ) -> Result<Self, Z::Error> {
                deserializer.deserialize_tuple($length, TupleVisitor::<Self>(PhantomData))
            }
        }

        impl<'de, $($name: Value),+> Visitor<'de> for TupleVisitor<($($name,)+)> {
            type Value = ($($name,)+);

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(concat!("a tuple of ", stringify!($length), " elements"))
            }

            fn visit_seq<Z: SeqAccess<'de>>(
                self,
                mut elements: Z,
            ) -> Result<Self::Value, Z::Error> {
                Ok(($($name::read_element(&mut elements, $index, &self)?,)+))
            }
        }
    };
}

tuple!(A 0; 1);
tuple!(A 0, B 1; 2);
tuple!(A 0, B 1, C 2; 3);
tuple!(A 0, B 1, C 2, D 3; 4);
tuple!(A 0, B 1, C 2, D 3, E 4; 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5; 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6; 7);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7; 8);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8; 9);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9; 10);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10; 11);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11; 12);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12; 13);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13; 14);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14; 15);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15; 16);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16; 17
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17; 18
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17, S 18; 19
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17, S 18, T 19; 20
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17, S 18, T 19, U 20; 21
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17, S 18, T 19, U 20, V 21; 22
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17, S 18, T 19, U 20, V 21, W 22; 23
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17, S 18, T 19, U 20, V 21, W 22, X 23; 24
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17, S 18, T 19, U 20, V 21, W 22, X 23, Y 24; 25
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17, S 18, T 19, U 20, V 21, W 22, X 23, Y 24, AA 25; 26
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17, S 18, T 19, U 20, V 21, W 22, X 23, Y 24, AA 25, BB 26; 27
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17, S 18, T 19, U 20, V 21, W 22, X 23, Y 24, AA 25, BB 26, CC 27; 28
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17, S 18, T 19, U 20, V 21, W 22, X 23, Y 24, AA 25, BB 26, CC 27, DD 28; 29
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17, S 18, T 19, U 20, V 21, W 22, X 23, Y 24, AA 25, BB 26, CC 27, DD 28, EE 29; 30
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17, S 18, T 19, U 20, V 21, W 22, X 23, Y 24, AA 25, BB 26, CC 27, DD 28, EE 29, FF 30; 31
);
tuple!(
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16,
    R 17, S 18, T 19, U 20, V 21, W 22, X 23, Y 24, AA 25, BB 26, CC 27, DD 28, EE 29, FF 30,
    GG 31; 32
);
