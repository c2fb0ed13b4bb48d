#include "ops/random/random.h"

#include <math.h>

#include <memory>
#include <mutex>
#include <random>

#include "ops/layout/layout.h"
#include "ops/loss/loss.h"
#include "python/bind.h"

namespace gg {
namespace {

// A position in a Philox stream. Each call takes the blocks it needs and leaves the next ones to the next call.
class Generator {
 public:
  explicit Generator(uint64_t seed) : seed_(seed) {}

  void manual_seed(uint64_t seed) {
    std::lock_guard<std::mutex> lock(mutex_);
    seed_ = seed;
    counter_ = 0;
  }
  Stream take(int64_t blocks) {
    std::lock_guard<std::mutex> lock(mutex_);
    Stream s{seed_, counter_};
    counter_ += uint64_t(blocks);
    return s;
  }
  Stream state() {
    std::lock_guard<std::mutex> lock(mutex_);
    return {seed_, counter_};
  }
  void set_state(Stream s) {
    std::lock_guard<std::mutex> lock(mutex_);
    seed_ = s.key;
    counter_ = s.counter;
  }

 private:
  std::mutex mutex_;
  uint64_t seed_, counter_ = 0;
};

uint64_t fresh_seed() {
  std::random_device device;
  return uint64_t(device()) << 32 | device();
}

const std::shared_ptr<Generator>& default_generator() {
  static const auto generator = std::make_shared<Generator>(fresh_seed());
  return generator;
}

constexpr uint64_t kDefaultSeed = 67280421310721;  // of a Generator that nobody has seeded, as in PyTorch

// Seeds are 64 bits; a negative one counts from 2^64, as in PyTorch.
uint64_t seed_of(const pybind11::int_& seed) {
  unsigned long long value = PyLong_AsUnsignedLongLong(seed.ptr());
  if (PyErr_Occurred()) {
    PyErr_Clear();
    value = static_cast<unsigned long long>(PyLong_AsLongLong(seed.ptr()));
  }
  if (PyErr_Occurred()) {
    PyErr_Clear();
    throw pybind11::value_error("manual_seed: the seed must be in [-2^63, 2^64)");
  }
  return value;
}

struct Source {  // an argument that is a Generator
  Generator* generator;
};
using MaybeSource = std::optional<Source>;

}  // namespace

namespace python {
template <> struct From<Source> {
  static Source from(PyObject* o, const Where& w) {
    if (!pybind11::isinstance<Generator>(o)) throw_argument(w, "a Generator", o);
    return {pybind11::handle(o).cast<Generator*>()};
  }
};
}  // namespace python

Stream take_stream(int64_t blocks) { return default_generator()->take(blocks); }

namespace {

Generator& generator_of(const MaybeSource& source) { return source ? *source->generator : *default_generator(); }

// Whole tiles for n elements that draw `words` each.
Stream take(const MaybeSource& source, int64_t n, int words) {
  int64_t per_tile = 4 * kTileBlocks / words;
  return generator_of(source).take((n + per_tile - 1) / per_tile * kTileBlocks);
}

// Fills `out` through write(dense array of out's shape): out itself where it is dense.
template <class Write> void write_dense(const Array& out, const Write& write) {
  if (out.numel() > 0) {
    Array dense = out.is_contiguous() ? out : Array::empty(out.shape(), out.dtype(), out.device());
    write(dense);
    if (!out.is_contiguous()) copy(out, dense);
  }
  bump_version(out);
}

void fill_random(Distribution d, const Array& out, double a, double b, const MaybeSource& source) {
  // Whole numbers, which some distributions allow, are drawn in float64 and converted.
  DType drawn = is_floating(out.dtype()) ? out.dtype() : DType::Float64;
  Stream s = take(source, out.numel(), drawn == DType::Float64 ? 2 : 1);
  write_dense(out, [&](const Array& y) {
    Array values = drawn == y.dtype() ? y : Array::empty(y.shape(), drawn, y.device());
    random_kernels(y.device()).fill(d, drawn, values.bytes(), y.numel(), s, a, b);
    if (drawn != y.dtype()) copy(y, values);
  });
}

void uniform_(const Array& out, double low, double high, const MaybeSource& source) {
  check_floating("uniform_", "self", out);
  check<ValueError>(low <= high, "uniform_: from ", low, " must not be above to ", high);
  fill_random(Distribution::Uniform, out, low, high, source);
}
void check_std(const char* op, double std) {
  check<ValueError>(std >= 0, op, ": the standard deviation must not be negative, got ", std);
}
void normal_(const Array& out, double mean, double std, const MaybeSource& source) {
  check_floating("normal_", "self", out);
  check_std("normal_", std);
  fill_random(Distribution::Normal, out, mean, std, source);
}
void log_normal_(const Array& out, double mean, double std, const MaybeSource& source) {
  check_floating("log_normal_", "self", out);
  check<ValueError>(std > 0, "log_normal_: the standard deviation must be positive, got ", std);
  fill_random(Distribution::LogNormal, out, mean, std, source);
}
void exponential_(const Array& out, double rate, const MaybeSource& source) {
  check_floating("exponential_", "self", out);
  check<ValueError>(rate > 0, "exponential_: the rate must be positive, got ", rate);
  fill_random(Distribution::Exponential, out, rate, 0, source);
}
void cauchy_(const Array& out, double median, double sigma, const MaybeSource& source) {
  check_floating("cauchy_", "self", out);
  check<ValueError>(sigma > 0, "cauchy_: sigma must be positive, got ", sigma);
  fill_random(Distribution::Cauchy, out, median, sigma, source);
}
void geometric_(const Array& out, double p, const MaybeSource& source) {
  check<DTypeError>(out.dtype() != DType::Bool, "geometric_: self ", out, " must hold numbers, not bool");
  check<ValueError>(p > 0 && p < 1, "geometric_: p must be between 0 and 1, got ", p);
  fill_random(Distribution::Geometric, out, p, 0, source);
}

// Whole numbers in [low, high); high None: up to 2^63 - 1 with it. The caller has checked that they fit out's dtype.
void integers_(const Array& out, int64_t low, std::optional<int64_t> high, const MaybeSource& source) {
  check<ValueError>(!high || low < *high, "random_: from ", low, " must be below to ", high.value_or(0));
  uint64_t range = uint64_t(high ? *high : INT64_MAX) - uint64_t(low) + (high ? 0 : 1);
  Stream s = take(source, out.numel(), 2);
  write_dense(out, [&](const Array& y) {
    random_kernels(y.device()).integers(y.dtype(), y.bytes(), y.numel(), s, low, range);
  });
}

void bernoulli_(const Array& out, double p, const MaybeSource& source) {
  check<ValueError>(p >= 0 && p <= 1, "bernoulli_: p must be in [0, 1], got ", p);
  Stream s = take(source, out.numel(), 1);
  write_dense(out,
              [&](const Array& y) { random_kernels(y.device()).bernoulli(y.dtype(), y.bytes(), y.numel(), s, p); });
}

void check_probabilities(const char* op, const Array& p) {
  check_floating(op, "p", p);
  Array dense = p.contiguous();
  if (p.numel() == 0 || loss_kernels(p.device()).within(p.dtype(), dense.bytes(), p.numel(), 0, 1)) return;
  Array wide = dense.to_device({}).to(DType::Float64);
  for (int64_t i = 0; i < wide.numel(); ++i) {
    double v = wide.data<double>()[i];
    check<ValueError>(v >= 0 && v <= 1, op, ": p ", p, " holds ", v, "; probabilities are in [0, 1]");
  }
}

Array bernoulli(const Array& p, const MaybeSource& source) {
  check_probabilities("bernoulli", p);
  Array pc = p.contiguous(), y = Array::empty(p.shape(), p.dtype(), p.device());
  Stream s = take(source, y.numel(), 1);
  if (y.numel() > 0) random_kernels(p.device()).bernoulli_each(p.dtype(), pc.bytes(), y.bytes(), y.numel(), s);
  return y;
}

Array poisson(const Array& rate, const MaybeSource& source) {
  check_floating("poisson", "input", rate);
  Array rc = rate.contiguous(), y = Array::empty(rate.shape(), rate.dtype(), rate.device());
  Stream s = generator_of(source).take(y.numel());
  if (y.numel() > 0) random_kernels(rate.device()).poisson(rate.dtype(), rc.bytes(), y.bytes(), y.numel(), s);
  return y;
}

Array randperm(int64_t n, const MaybeSource& source, std::optional<Device> device) {
  check<ValueError>(n >= 0, "randperm: n must not be negative, got ", n);
  Array y = Array::empty({n}, DType::Int64);
  Stream s = take(source, n, 2);
  random_kernels(y.device()).permutation(y.data<int64_t>(), n, s);
  return y.to_device(device.value_or(Device{}));
}

// (y, mask)
std::pair<Array, Array> dropout(const Array& x, double p, const MaybeSource& source) {
  check_floating("dropout", "input", x);
  check<ValueError>(p >= 0 && p < 1, "dropout: p must be in [0, 1), got ", p);
  Array xc = x.contiguous(), y = Array::empty(x.shape(), x.dtype(), x.device());
  Array mask = Array::empty(x.shape(), DType::Bool, x.device());
  Stream s = take(source, x.numel(), 1);
  if (x.numel() > 0)
    random_kernels(x.device()).dropout(x.dtype(), xc.bytes(), y.bytes(), mask.data<uint8_t>(), x.numel(), s, p);
  return {y, mask};
}

Array dropout_backward(const Array& dy, const Array& mask, double scale) {
  check_same_device("dropout_backward", dy, mask);
  Array dyc = dy.contiguous(), dx = Array::empty(dy.shape(), dy.dtype(), dy.device());
  if (dy.numel() > 0)
    random_kernels(dy.device())
        .dropout_backward(dy.dtype(), dyc.bytes(), mask.data<uint8_t>(), dx.bytes(), dy.numel(), scale);
  return dx;
}

Array state_array(Generator& g) {
  Stream s = g.state();
  Array a = Array::empty({int64_t(sizeof s)}, DType::UInt8);
  memcpy(a.bytes(), &s, sizeof s);
  return a;
}
void set_state_array(Generator& g, const Array& state) {
  Stream s;
  if (state.dtype() != DType::UInt8 || state.numel() != int64_t(sizeof s))
    throw pybind11::value_error(
        message("set_state: state ", state, " must be ", sizeof s, " uint8, as get_state gives them"));
  Array dense = state.to_device({}).contiguous();
  memcpy(&s, dense.bytes(), sizeof s);
  g.set_state(s);
}

}  // namespace

void bind_random(pybind11::module_& m) {
  namespace py = pybind11;
  py::class_<Generator, std::shared_ptr<Generator>>(m, "Generator",
                                                    R"(A seed and a position in its stream of random numbers.

    >>> g = gg.Generator().manual_seed(0)
    >>> a = gg.rand(2, generator=g)
    >>> bool((gg.rand(2, generator=g.manual_seed(0)) == a).all())
    True
    )")
      .def(py::init([](const py::object&) { return std::make_shared<Generator>(kDefaultSeed); }),
           py::arg("device") = "cpu")
      .def(
          "manual_seed",
          [](const std::shared_ptr<Generator>& g, const py::int_& seed) {
            g->manual_seed(seed_of(seed));
            return g;
          },
          py::arg("seed"), "Starts the stream of this seed from its beginning.")
      .def(
          "seed",
          [](Generator& g) {
            uint64_t seed = fresh_seed();
            g.manual_seed(seed);
            return seed;
          },
          "Seeds from the operating system's randomness and returns the seed.")
      .def(
          "initial_seed", [](Generator& g) { return g.state().key; }, "The seed of the stream.")
      .def(
          "get_state", [](Generator& g) { return py::reinterpret_steal<py::object>(python::wrap(state_array(g))); },
          "The seed and the position, as a uint8 tensor.")
      .def(
          "set_state",
          [](Generator& g, const py::object& state) {
            if (!python::is_tensor(state.ptr())) throw pybind11::type_error("set_state: state must be a Tensor");
            set_state_array(g, python::as_tensor(state.ptr())->array);
          },
          py::arg("new_state"), "Goes back to what get_state gave.")
      .def_property(
          "_position",
          [](Generator& g) {
            Stream s = g.state();
            return py::make_tuple(s.key, s.counter);
          },
          [](Generator& g, std::pair<uint64_t, uint64_t> p) { g.set_state({p.first, p.second}); })
      .def_property_readonly(
          "device", [](Generator&) { return py::reinterpret_steal<py::object>(python::device_object(Device{})); })
      .def(py::pickle(
          [](Generator& g) {
            Stream s = g.state();
            return py::make_tuple(s.key, s.counter);
          },
          [](const py::tuple& t) {
            auto g = std::make_shared<Generator>(0);
            g->set_state({t[0].cast<uint64_t>(), t[1].cast<uint64_t>()});
            return g;
          }));
  m.attr("default_generator") = default_generator();
  python::def<&uniform_>(m, "uniform_", {"self", "from", "to", "generator"});
  python::def<&normal_>(m, "normal_", {"self", "mean", "std", "generator"});
  python::def<&log_normal_>(m, "log_normal_", {"self", "mean", "std", "generator"});
  python::def<&exponential_>(m, "exponential_", {"self", "lambd", "generator"});
  python::def<&cauchy_>(m, "cauchy_", {"self", "median", "sigma", "generator"});
  python::def<&geometric_>(m, "geometric_", {"self", "p", "generator"});
  python::def<&integers_>(m, "random_", {"self", "from", "to", "generator"});
  python::def<&bernoulli_>(m, "bernoulli_", {"self", "p", "generator"});
  python::def<&bernoulli>(m, "bernoulli", {"p", "generator"});
  python::def<&poisson>(m, "poisson", {"input", "generator"});
  python::def<&randperm>(m, "randperm", {"n", "generator", "device"});
  python::def<&dropout>(m, "dropout", {"input", "p", "generator"});
  python::def<&dropout_backward>(m, "dropout_backward", {"dy", "mask", "scale"});
}

}  // namespace gg
