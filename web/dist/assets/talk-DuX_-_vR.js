import{A as c,b as h}from"./icons-I7-K48Xo.js";import{P as b,n as r,a as w}from"./page-ISBS-S02.js";import{e as k}from"./messages-C3bfKhgu.js";import{h as C,i as O,p as T,c as P}from"./format-CijQ4Vc-.js";import"./draft-D7HC8EvH.js";import"./files-Bv8nI5bI.js";import"./watched-B41rlUUT.js";import"./copy-DjJMiP4M.js";var E=Object.defineProperty,M=Object.getOwnPropertyDescriptor,$=e=>{throw TypeError(e)},n=(e,t,s,o)=>{for(var i=o>1?void 0:o?M(t,s):t,l=e.length-1,m;l>=0;l--)(m=e[l])&&(i=(o?m(t,s,i):m(i))||i);return o&&i&&E(t,s,i),i},y=(e,t,s)=>t.has(e)||$("Cannot "+s),f=(e,t,s)=>(y(e,t,"read from private field"),s?s.call(e):t.get(e)),u=(e,t,s)=>t.has(e)?$("Cannot add the same private member more than once"):t instanceof WeakSet?t.add(e):t.set(e,s),v=(e,t,s)=>(y(e,t,"access private method"),s),p,d,_,g;let a=class extends b{constructor(){super(...arguments),u(this,d),this.name="",this.about="",this.actions=c,this.stage=c,u(this,p,()=>{this.session.setAway(document.hidden),document.hidden||(document.title=`${this.name} – Tidings`)})}connectedCallback(){super.connectedCallback(),document.addEventListener("visibilitychange",f(this,p))}disconnectedCallback(){super.disconnectedCallback(),document.removeEventListener("visibilitychange",f(this,p))}async firstUpdated(){document.title=`${this.name} – Tidings`,!matchMedia("(pointer: coarse)").matches&&(await this.composer.updateComplete,this.composer.focus())}render(){const{session:e,chat:t,name:s}=this;this.look(e,t),document.hidden&&t.unread>0&&(document.title=`(${t.unread}) ${s} – Tidings`);const o=()=>s;return h`<header class="top">
        <span class="face" aria-hidden="true" data-hue=${Math.round(C(s)/60)%6}>${O(s)}</span>
        <div class="names">
          <h1>${s}</h1>
          <p class="state">${v(this,d,_).call(this)}</p>
        </div>
        <div class="actions">${this.actions}</div>
      </header>
      ${this.stage}
      <t-connection .session=${e}></t-connection>
      ${v(this,d,g).call(this)}
      <main class="talk">
        <h2 class="hidden">Chat with ${s}</h2>
        ${t.items().length===0?h`<p class="empty">Say hello to ${s}.</p>`:c}
        <t-messages
          .session=${e}
          .chat=${t}
          .files=${this.files}
          .nameOf=${o}
          .reply=${i=>this.composer.reply(i)}
          .edit=${i=>this.composer.edit(i)}
        ></t-messages>
        <t-composer .session=${e} .chat=${t} .files=${this.files} .nameOf=${o}></t-composer>
      </main>`}};p=new WeakMap;d=new WeakSet;_=function(){const{session:e,chat:t}=this;return t.typing.length>0?h`<span class="typing">typing<i></i><i></i><i></i></span>`:this.about?this.about:t.peer===void 0?"":T(e.presenceOf(t.peer))};g=function(){const{ending:e}=this.chat;if(this.tickWhile(e!==void 0),!e)return c;const t=e.at-Date.now(),s=e.why==="idle";return h`<div class="bar warn" role="alert">
      <span aria-live="off">
        ${s?"Nobody has written for a while: the chat ends in":"The time of this chat is over: it ends in"}
        <b>${P(t)}</b>
      </span>
      ${s?h`<button
            class="link"
            @click=${()=>{this.chat.ending=void 0,this.session.reconnect()}}
          >
            Keep it open
          </button>`:c}
    </div>`};n([r({attribute:!1})],a.prototype,"session",2);n([r({attribute:!1})],a.prototype,"chat",2);n([r()],a.prototype,"name",2);n([r()],a.prototype,"about",2);n([r({attribute:!1})],a.prototype,"files",2);n([r({attribute:!1})],a.prototype,"actions",2);n([r({attribute:!1})],a.prototype,"stage",2);n([k("t-composer")],a.prototype,"composer",2);a=n([w("t-talk")],a);export{a as Talk};
