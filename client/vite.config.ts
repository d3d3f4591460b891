// The bundle: four files with fixed names, which the server embeds, and nothing inline.
import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  publicDir: "public",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../crates/serve/dist",
    emptyOutDir: true,
    target: "es2022",
    cssCodeSplit: false,
    assetsInlineLimit: 0,
    modulePreload: false,
    reportCompressedSize: true,
    rolldownOptions: {
      output: {
        entryFileNames: "client.js",
        chunkFileNames: "[name].js",
        assetFileNames: "client[extname]",
      },
    },
  },
});
