// Load a GGUF file with llama.cpp on stand-in cards and print the buffers it reserves.
//
// The stand-in card takes every operation, has the buffer alignment and row padding of a CUDA card, and allocates
// nothing, so the real loader, scheduler and graph allocator can be asked about any model on a machine without a card.
// With serve=PORT the cards are those of an RPC worker, with rpc=ADDRESS the workers' cards come before its own.
// Its results are fixtures of the test suite (tests/memory/fixtures); see build.sh and run.py beside this file.
#include "ggml-backend-impl.h"
#include "ggml-backend.h"
#include "ggml-impl.h"
#include "ggml-rpc.h"
#include "llama.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#if __has_include("cuda_fusion.inc")
#include "cuda_fusion.inc"
#define CUDA_FUSION 1
#endif

// The file's data is a hole, which the loader would read into the page cache page by page: nothing of it is needed.
extern "C" void * mmap(void * address, size_t length, int protection, int flags, int file, off_t offset) noexcept {
    return (void *) syscall(SYS_mmap, address, length, protection, flags & ~MAP_POPULATE, file, offset);
}
extern "C" int posix_madvise(void *, size_t, int) noexcept { return 0; }

static size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }

static const size_t ALIGNMENT = 128;
static int n_cards = 1;
static bool is_cuda = true;
static ggml_backend_reg card_reg;
static ggml_backend_device cards[16];
static ggml_backend_buffer_type card_types[16];
static std::string names[16];

static const char * buft_name(ggml_backend_buffer_type_t buft) { return (const char *) buft->context; }
static size_t buft_alignment(ggml_backend_buffer_type_t) { return ALIGNMENT; }

static size_t half_copy(const ggml_tensor * t) {
    size_t extra = 0;
    const ggml_tensor * k = t->src[1];
    const ggml_tensor * v = t->src[2];
    if (k->type != GGML_TYPE_F16) extra = round_up(extra, ALIGNMENT) + ggml_nelements(k) * 2;
    const bool same = v->view_src && (v->view_src == k || (v->view_src == k->view_src && v->view_offs == k->view_offs));
    if (v->type != GGML_TYPE_F16 && !same) extra = round_up(extra, ALIGNMENT) + ggml_nelements(v) * 2;
    return extra;
}

static size_t buft_alloc_size(ggml_backend_buffer_type_t, const ggml_tensor * t) {
    size_t size = ggml_nbytes(t);
    if (is_cuda && t->op == GGML_OP_FLASH_ATTN_EXT) size = round_up(size, ALIGNMENT) + half_copy(t);
    if (ggml_is_quantized(t->type) && t->ne[0] % 512 != 0) size += ggml_row_size(t->type, 512 - t->ne[0] % 512);
    return size;
}

static size_t taken[16];
static int card_of(ggml_backend_buffer_type_t buft) { return (int) (buft - card_types); }
static void buf_free(ggml_backend_buffer_t buffer) { taken[card_of(buffer->buft)] -= buffer->size; }
static void * buf_base(ggml_backend_buffer_t) { return (void *) (uintptr_t) 0x100000000000ull; }
static void buf_memset(ggml_backend_buffer_t, ggml_tensor *, uint8_t, size_t, size_t) {}
static void buf_set(ggml_backend_buffer_t, ggml_tensor *, const void *, size_t, size_t) {}
static void buf_get(ggml_backend_buffer_t, const ggml_tensor *, void * data, size_t, size_t size) { memset(data, 0, size); }
static void buf_clear(ggml_backend_buffer_t, uint8_t) {}

static ggml_backend_buffer_t buft_alloc(ggml_backend_buffer_type_t buft, size_t size) {
    ggml_backend_buffer_i iface = {};
    iface.free_buffer = buf_free;
    iface.get_base = buf_base;
    iface.memset_tensor = buf_memset;
    iface.set_tensor = buf_set;
    iface.get_tensor = buf_get;
    iface.clear = buf_clear;
    taken[card_of(buft)] += size;
    return ggml_backend_buffer_init(buft, iface, nullptr, size);
}

static const char * be_name(ggml_backend_t backend) { return (const char *) backend->device->context; }
static void be_free(ggml_backend_t backend) { delete backend; }
static ggml_status be_compute(ggml_backend_t, ggml_cgraph *) { return GGML_STATUS_SUCCESS; }
static void be_set_async(ggml_backend_t, ggml_tensor *, const void *, size_t, size_t) {}
static void be_get_async(ggml_backend_t, const ggml_tensor *, void * data, size_t, size_t size) { memset(data, 0, size); }
static void be_sync(ggml_backend_t) {}
static void be_event(ggml_backend_t, ggml_backend_event_t) {}

static const char * dev_name(ggml_backend_dev_t dev) { return (const char *) dev->context; }
static const char * dev_description(ggml_backend_dev_t) { return "stand-in card"; }
static void dev_memory(ggml_backend_dev_t, size_t * free, size_t * total) { *free = *total = 24ull << 30; }
static enum ggml_backend_dev_type dev_type(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_GPU; }
static void dev_props(ggml_backend_dev_t dev, ggml_backend_dev_props * props) {
    memset(props, 0, sizeof(*props));
    props->name = dev_name(dev);
    props->description = dev_description(dev);
    props->type = GGML_BACKEND_DEVICE_TYPE_GPU;
    dev_memory(dev, &props->memory_free, &props->memory_total);
    props->caps.async = true;
    props->caps.events = true;
    props->caps.mmap_support = true;
}
static ggml_backend_t dev_init(ggml_backend_dev_t dev, const char *) {
    static ggml_guid guid = {7};
    ggml_backend_i iface = {};
    iface.get_name = be_name;
    iface.free = be_free;
    iface.set_tensor_async = be_set_async;
    iface.get_tensor_async = be_get_async;
    iface.synchronize = be_sync;
    iface.graph_compute = be_compute;
    iface.event_record = be_event;
    iface.event_wait = be_event;
#ifdef CUDA_FUSION
    if (is_cuda) iface.graph_optimize = ggml_backend_cuda_graph_optimize;
#endif
    return new ggml_backend{&guid, iface, dev, nullptr};
}
static ggml_backend_buffer_type_t dev_buft(ggml_backend_dev_t dev) { return &card_types[dev - cards]; }
static bool dev_supports_op(ggml_backend_dev_t, const ggml_tensor *) { return true; }
static bool dev_supports_buft(ggml_backend_dev_t dev, ggml_backend_buffer_type_t buft) { return buft == dev_buft(dev); }
static bool dev_offload(ggml_backend_dev_t, const ggml_tensor * op) {
    int64_t rows = op->op == GGML_OP_GET_ROWS ? 0 : op->op == GGML_OP_MUL_MAT ? op->ne[1]
        : op->op == GGML_OP_MUL_MAT_ID || op->op == GGML_OP_ROPE ? op->ne[2] : ggml_nrows(op);
    return rows >= 32;
}
static ggml_backend_event_t dev_event_new(ggml_backend_dev_t dev) { return new ggml_backend_event{dev, nullptr}; }
static void dev_event_free(ggml_backend_dev_t, ggml_backend_event_t event) { delete event; }
static void dev_event_sync(ggml_backend_dev_t, ggml_backend_event_t) {}

static const char * reg_name(ggml_backend_reg_t) { return "STANDIN"; }
static size_t reg_count(ggml_backend_reg_t) { return (size_t) n_cards; }
static ggml_backend_dev_t reg_device(ggml_backend_reg_t, size_t index) { return &cards[index]; }
static void * reg_proc(ggml_backend_reg_t, const char *) { return nullptr; }

static void make_cards() {
    card_reg.api_version = GGML_BACKEND_API_VERSION;
    card_reg.iface = {reg_name, reg_count, reg_device, reg_proc};
    for (int i = 0; i < n_cards; ++i) {
        names[i] = "CUDA" + std::to_string(i);
        ggml_backend_device_i device = {};
        device.get_name = dev_name;
        device.get_description = dev_description;
        device.get_memory = dev_memory;
        device.get_type = dev_type;
        device.get_props = dev_props;
        device.init_backend = dev_init;
        device.get_buffer_type = dev_buft;
        device.supports_op = dev_supports_op;
        device.supports_buft = dev_supports_buft;
        device.offload_op = dev_offload;
        device.event_new = dev_event_new;
        device.event_free = dev_event_free;
        device.event_synchronize = dev_event_sync;
        cards[i] = {device, &card_reg, (void *) names[i].c_str()};
        ggml_backend_buffer_type_i buft = {};
        buft.get_name = buft_name;
        buft.alloc_buffer = buft_alloc;
        buft.get_alignment = buft_alignment;
        buft.get_alloc_size = buft_alloc_size;
        card_types[i] = {buft, &cards[i], (void *) names[i].c_str()};
    }
    ggml_backend_register(&card_reg);
}

static ggml_type type_named(const std::string & name) {
    for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
        const char * known = ggml_type_name((ggml_type) i);
        if (known && name == known) return (ggml_type) i;
    }
    fprintf(stderr, "unknown type %s\n", name.c_str());
    exit(2);
}

static void * rpc_function(const char * name) {
    ggml_backend_reg_t reg = ggml_backend_reg_by_name("RPC");
    void * found = reg ? ggml_backend_reg_get_proc_address(reg, name) : nullptr;
    if (!found) {
        fprintf(stderr, "this build has no RPC\n");
        exit(2);
    }
    return found;
}

static void serve(const std::string & port) {
    auto start = (decltype(&ggml_backend_rpc_start_server)) rpc_function("ggml_backend_rpc_start_server");
    std::vector<ggml_backend_dev_t> shown;
    for (int i = 0; i < n_cards; ++i) shown.push_back(&cards[i]);
    start(("127.0.0.1:" + port).c_str(), nullptr, 1, shown.size(), shown.data());
}

static void add_workers(const std::string & address) {
    auto add = (decltype(&ggml_backend_rpc_add_server)) rpc_function("ggml_backend_rpc_add_server");
    ggml_backend_register(add(address.c_str()));
}

static void log_all(ggml_log_level, const char * text, void *) { fputs(text, stdout); }

int main(int argc, char ** argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: probe FILE [key=value ...]\n");
        return 2;
    }
    llama_model_params model = llama_model_default_params();
    llama_context_params context = llama_context_default_params();
    model.n_gpu_layers = 999;
    // beside a real card host weights lie in its pinned buffers, never in repacked ones; without one say repack=1
    model.use_extra_bufts = false;
    std::vector<llama_model_tensor_buft_override> overrides;
    std::vector<std::string> patterns;
    patterns.reserve(64);
    bool debug = false;
    std::string port;
    std::vector<std::string> workers;
    float shares[16] = {};
    for (int i = 2; i < argc; ++i) {
        const std::string option = argv[i];
        const std::string key = option.substr(0, option.find('='));
        const std::string value = option.substr(option.find('=') + 1);
        const int number = atoi(value.c_str());
        if (key == "cards") n_cards = number;
        else if (key == "cuda") is_cuda = number;
        else if (key == "ngl") model.n_gpu_layers = number;
        else if (key == "ctx") context.n_ctx = number;
        else if (key == "ub") context.n_ubatch = number;
        else if (key == "b") context.n_batch = number;
        else if (key == "seq") context.n_seq_max = number;
        else if (key == "out") context.n_outputs_max = number;
        else if (key == "unified") context.kv_unified = number;
        else if (key == "fa") context.flash_attn_type = number ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
        else if (key == "ctk") context.type_k = type_named(value);
        else if (key == "ctv") context.type_v = type_named(value);
        else if (key == "sm") model.split_mode = (llama_split_mode) number;
        else if (key == "ts") {
            size_t at = 0;
            for (size_t from = 0; from < value.size() && at < 16; from = value.find(',', from) + 1) {
                shares[at++] = (float) atof(value.c_str() + from);
                if (value.find(',', from) == std::string::npos) break;
            }
            model.tensor_split = shares;
        }
        else if (key == "swa_full") context.swa_full = number;
        else if (key == "nkvo") context.offload_kqv = !number;
        else if (key == "op_offload") context.op_offload = number;
        else if (key == "mmap") model.load_mode = number ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
        else if (key == "repack") model.use_extra_bufts = number;
        else if (key == "cpu") patterns.push_back(value);
        else if (key == "serve") port = value;
        else if (key == "rpc") workers.push_back(value);
        else if (key == "debug") debug = number;
        else { fprintf(stderr, "unknown option %s\n", option.c_str()); return 2; }
    }
    for (const std::string & pattern : patterns) overrides.push_back({pattern.c_str(), ggml_backend_cpu_buffer_type()});
    overrides.push_back({nullptr, nullptr});
    if (overrides.size() > 1) model.tensor_buft_overrides = overrides.data();
    llama_log_set(log_all, nullptr);
    if (debug) setenv("GGML_SCHED_DEBUG", "2", 1);
    if (n_cards > 0) make_cards();
    if (!port.empty()) serve(port);
    for (const std::string & worker : workers) add_workers(worker);
    llama_model * loaded = llama_model_load_from_file(argv[1], model);
    if (!loaded) return 1;
    llama_context * made = llama_init_from_model(loaded, context);
    for (int i = 0; i < n_cards; ++i) printf("stand-in: %s took %.2f MiB\n", names[i].c_str(), taken[i] / 1048576.0);
    fflush(stdout);
    _Exit(made ? 0 : 1);
}
