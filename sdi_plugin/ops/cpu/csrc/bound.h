// fusion = "asinh": y = a asinh(p / a) of the product p, elementwise. For |p| << a it is the product itself, for
// |p| >> a a logarithm. Its derivative is 1 / sqrt(1 + (p / a)^2). a is Stage::bound; 0 leaves the product as it is.
//
// Branch-free over rows, so that the compiler vectorises it for each instruction set; libm's asinh is one call per
// element.

template <typename T> struct FloatBits;
template <> struct FloatBits<float> {
  using Int = int32_t;
  static constexpr int kMantissa = 23, kTerms = 6; // terms of the logarithm's series: the next is below the rounding
  static constexpr Int kBias = 127, kOne = 0x3f800000, kMantissaMask = 0x7fffff;
  static constexpr float kLargest = 1e18f; // its square does not overflow, and adding 1 to it changes nothing
};
template <> struct FloatBits<double> {
  using Int = int64_t;
  static constexpr int kMantissa = 52, kTerms = 12;
  static constexpr Int kBias = 1023, kOne = 0x3ff0000000000000, kMantissaMask = 0xfffffffffffff;
  static constexpr double kLargest = 1e150;
};

// log(t) for finite t >= 1: t = 2^e m, log m = 2 artanh((m - 1) / (m + 1)) with m from sqrt(1/2) to sqrt(2).
template <typename T> SDI_INLINE T log_from_one(T t) {
  using Bits = FloatBits<T>;
  using Int = typename Bits::Int;
  Int bits;
  std::memcpy(&bits, &t, sizeof(T));
  Int exponent = (bits >> Bits::kMantissa) - Bits::kBias;
  bits = (bits & Bits::kMantissaMask) | Bits::kOne;
  T m;
  std::memcpy(&m, &bits, sizeof(T));
  const bool upper = m > T(1.4142135623730951);
  m = upper ? m * T(0.5) : m;
  const T e = static_cast<T>(upper ? exponent + 1 : exponent);
  const T s = (m - T(1)) / (m + T(1)), square = s * s;
  T series = 0;
  SDI_UNROLL for (int k = Bits::kTerms - 1; k > 0; k--)
    series = series * square + T(1) / T(2 * k + 1);
  return e * T(0.6931471805599453) + T(2) * s * (series * square + T(1));
}

template <typename T> SDI_INLINE T bounded(T p, T a) {
  constexpr T largest = FloatBits<T>::kLargest, infinity = std::numeric_limits<T>::infinity();
  const T z = p / a, size = std::abs(z), within = std::min(size, largest);
  // asinh(z) = log(1 + u), with what rounding takes from 1 + u for small u added back to first order.
  const T u = within + within * within / (T(1) + std::sqrt(T(1) + within * within)), t = T(1) + u;
  const bool huge = size > largest; // asinh(z) = log(2 z)
  const T value = log_from_one(huge ? size : t) + (huge ? T(0.6931471805599453) : (u - (t - T(1))) / t);
  return a * std::copysign(size < infinity ? value : size, z); // Inf and NaN are kept
}

// Replace product (count) by its bounded form.
template <typename T> void bound_row(T *product, int64_t count, T a) {
  for (int64_t i = 0; i < count; i++)
    product[i] = bounded(product[i], a);
}

// Replace the gradient (count) of the bounded form by that of the product.
template <typename T> void unbound_row(T *gradient, const T *product, int64_t count, T a) {
  for (int64_t i = 0; i < count; i++) {
    const T z = product[i] / a;
    gradient[i] /= std::sqrt(T(1) + z * z);
  }
}
