// Load a projector with llama.cpp's mtmd on a stand-in card (probe.cpp) and print the bytes that it takes of each device.
#define main probe_main
#include "probe.cpp"
#undef main
#include "mtmd.h"

#include <map>

std::map<ggml_backend_dev_t, size_t> mtmd_get_memory_usage(const char *, struct mtmd_context_params);

int main(int argc, char ** argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: projector FILE [flash attention: 0 or 1]\n");
        return 2;
    }
    mtmd_context_params params = mtmd_context_params_default();
    params.use_gpu = true;
    params.warmup = true;
    const bool plain = argc > 2 && argv[2][0] == '0';
    params.flash_attn_type = plain ? LLAMA_FLASH_ATTN_TYPE_DISABLED : LLAMA_FLASH_ATTN_TYPE_ENABLED;
    make_cards();
    for (const auto & [device, size] : mtmd_get_memory_usage(argv[1], params)) {
        printf("%s %zu\n", ggml_backend_dev_name(device), size);
    }
}
