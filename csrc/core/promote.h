// torch.result_type: tensors with axes decide first, 0-d ones only where they are of a higher kind (bool < integer <
// float), Python numbers only where they are of a kind above both.
#pragma once
#include "core/array.h"

namespace gg {

namespace detail {
constexpr int kind(DType t) { return t == DType::Bool ? 0 : is_integral(t) ? 1 : 2; }
}  // namespace detail

template <class... Arrays> DType result_type(const Arrays&... arrays) {
  const Array* operands[] = {&arrays...};
  bool alike = true;
  for (const Array* x : operands) alike = alike && x->dtype() == operands[0]->dtype() && !x->weak();
  if (alike) return operands[0]->dtype();
  DType level[3] = {DType::Bool, DType::Bool, DType::Bool};  // with axes, 0-d, Python numbers
  bool present[3] = {};
  for (const Array* x : operands) {
    int k = x->weak() ? 2 : x->ndim() == 0 ? 1 : 0;
    DType t = x->weak() && is_floating(x->dtype()) ? default_dtype : x->dtype();
    level[k] = present[k] ? promote(level[k], t) : t;
    present[k] = true;
  }
  DType result = DType::Bool;
  bool any = false;
  for (int k = 0; k < 3; ++k) {
    if (!present[k]) continue;
    if (!any || detail::kind(level[k]) > detail::kind(result)) result = level[k];
    any = true;
  }
  return result;
}

}  // namespace gg
